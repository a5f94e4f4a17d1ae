"""A checkpoint: a signed statement of what a stretch of the audit log held, kept outside that log."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from actors.contracts.chain import digest
from actors.contracts.envelope import Instant
from actors.contracts.errors import HeadraceError
from actors.journal.trail import Entry

CHECKPOINTS = "checkpoints.jsonl"
PRIVATE_KEY = "checkpoints.key"
PUBLIC_KEY = "checkpoints.pub"

SHORT = 16
SEAL = b',"signature":"'


class CheckpointError(HeadraceError):
    """Checkpoints or their keys cannot be read or written; the message says what to do."""


class Checkpoint(BaseModel):
    """What the entries `first` to `last` of the audit log were when they were read, in order.

    `entries` of them were there, and `total` in all checkpoints up to this one. `digest` covers all, and `jobs` has a
    short one for each job that had some, so that a job is named also when nothing of it is left. `prev` is the digest
    of the line before. `since` is when the first of the entries was stored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = 1
    at: Instant
    first: int
    last: int
    entries: int
    total: int
    since: Instant
    digest: str
    jobs: dict[str, str]
    prev: str = ""


class Stretch:
    """The digests of consecutive entries, as they are taken."""

    def __init__(self) -> None:
        self.entries = 0
        self._all = hashlib.sha256()
        self._jobs: dict[str, bytes] = {}

    def take(self, entry: Entry) -> None:
        self.entries += 1
        origin = f"{entry.record.seq} {entry.record.subject}" if entry.record else entry.source
        told = hashlib.sha256(f"{origin}\n".encode() + entry.data).digest()
        self._all.update(told)
        self._jobs[entry.job] = hashlib.sha256(self._jobs.get(entry.job, b"") + told).digest()

    @property
    def digest(self) -> str:
        return self._all.hexdigest()

    @property
    def jobs(self) -> dict[str, str]:
        return {job: found.hex()[:SHORT] for job, found in self._jobs.items()}


@dataclass(frozen=True, slots=True)
class Signer:
    """The key that checkpoints are signed with: Ed25519, so that who verifies need not be able to sign."""

    key: Ed25519PrivateKey

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The key in this folder, made if there is none, readable by this user only. Raises CheckpointError."""
        path = folder / PRIVATE_KEY
        try:
            if path.exists():
                key = load_pem_private_key(path.read_bytes(), None)
                if not isinstance(key, Ed25519PrivateKey):
                    raise CheckpointError(f"{path} is no Ed25519 key: put the right one there, or move it away")
                return cls(key)
            key = Ed25519PrivateKey.generate()
            _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            _write(folder / PUBLIC_KEY, public, mode=0o644)
            return cls(key)
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged: put a copy of it back, or move it away") from error
        except OSError as error:
            raise CheckpointError(
                f"cannot keep keys in {folder} ({error.strerror}): allow it, or set another"
            ) from error

    def sign(self, checkpoint: Checkpoint) -> bytes:
        """The line that is stored."""
        body = checkpoint.model_dump_json().encode()
        return body[:-1] + SEAL + self.key.sign(body).hex().encode() + b'"}\n'


class Seal:
    """Checks checkpoints by the public half of the key that signed them."""

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError."""
        try:
            key = load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"cannot read the key {path} ({error.strerror}): name it with --key") from error
        except ValueError as error:
            raise CheckpointError(f"{path} is no public key: name the right one with --key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise CheckpointError(f"{path} is no Ed25519 key: name the right one with --key")
        self._key = key

    def opened(self, line: bytes) -> Checkpoint | None:
        """The checkpoint on a line; None when it is not what was signed."""
        head, seal, signature = line.rstrip(b"\n").rpartition(SEAL)
        body = head + b"}"
        try:
            self._key.verify(bytes.fromhex(signature.removesuffix(b'"}').decode()), body)
            return Checkpoint.model_validate_json(body) if seal else None
        except (InvalidSignature, ValidationError, ValueError):
            return None


def lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file of checkpoints; what a power cut left half written was never signed.

    Raises CheckpointError.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoints from {path} ({error.strerror})") from error


def line_digest(line: bytes) -> str:
    """What the next line's `prev` is."""
    return digest(line)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
