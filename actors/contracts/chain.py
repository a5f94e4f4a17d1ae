"""The chain that ties a job's messages together: numbers, digests, and the place where the next one goes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

NO_TEXT = ""


def digest(data: bytes) -> str:
    """The sha256 of stored bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def text_digest(before: str, data: bytes) -> str:
    """The digest of a step's text up to and including the stored bytes `data`; `before` is `NO_TEXT` for the first."""
    return hashlib.sha256(before.encode() + digest(data).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a job's log ends, as its writer knows it.

    `seq` is the last stream sequence over all the job's subjects, which the next append expects; `n` the last event
    number; `prev` the digest of the last fact; `text` the running digest of the current step's text.
    """

    seq: int = 0
    n: int = 0
    prev: str = ""
    text: str = NO_TEXT

    def with_fact(self, seq: int, data: bytes) -> Chain:
        """The chain once the fact `data` is stored at `seq`."""
        return replace(self, seq=seq, n=self.n + 1, prev=digest(data))

    def with_text(self, seq: int, data: bytes) -> Chain:
        """The chain once the text `data` is stored at `seq`."""
        return replace(self, seq=seq, n=self.n + 1, text=text_digest(self.text, data))
