"""An API key: what a caller shows to be known, and what is kept of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import NamedTuple

from actors.contracts.carried import Carried

PREFIX = "hrk_"
"""What every key begins with, so that one that has leaked can be found: `hrk_[a-z2-7]{10}_[a-z2-7]{46}`."""

_ID, _SECRET, _CHECK = 10, 40, 6
_KEY = re.compile(rf"{PREFIX}([a-z2-7]{{{_ID}}})_([a-z2-7]{{{_SECRET}}})([a-z2-7]{{{_CHECK}}})")


class NewKey(NamedTuple):
    """A key as it is shown, once; its `id` is no secret."""

    id: str
    text: str


class ApiKey(Carried):
    """What is kept of a key: whose it is and how long it is good, but not the key itself.

    200 random bits need no slow hash.
    """

    tenant: str
    digest: str
    created: datetime
    name: str = ""
    is_operator: bool = False
    expires: datetime | None = None
    revoked: datetime | None = None

    def fits(self, text: str) -> bool:
        """Whether this is the key; it takes as long whatever is wrong with it."""
        return hmac.compare_digest(self.digest, digest_of(text))

    def is_good(self, now: datetime) -> bool:
        """Whether it opens anything at this time."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def sign(self, said: str) -> str:
        """What proves that this was said by somebody who knows what is kept of the key."""
        return hmac.new(bytes.fromhex(self.digest), said.encode(), hashlib.sha256).hexdigest()

    def proves(self, said: str, signature: str) -> bool:
        """Whether this is what `sign` has given for it."""
        return hmac.compare_digest(self.sign(said).encode(), signature.encode("utf-8", "surrogatepass"))


def new_api_key() -> NewKey:
    """A key that nobody has."""
    id, secret = _random(_ID), _random(_SECRET)
    return NewKey(id, f"{PREFIX}{id}_{secret}{_check(id, secret)}")


def id_of(text: str) -> str | None:
    """The id of a key; None when it was never one, which is known without looking it up."""
    found = _KEY.fullmatch(text)
    return found[1] if found and found[3] == _check(found[1], found[2]) else None


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _random(length: int) -> str:
    return _base32(secrets.token_bytes(length * 5 // 8 + 1))[:length]


def _check(id: str, secret: str) -> str:
    return _base32(hashlib.sha256(f"{id}_{secret}".encode()).digest())[:_CHECK]


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()
