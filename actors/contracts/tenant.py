"""A tenant: whose jobs they are."""

from __future__ import annotations

import base64
import hashlib
import re

from actors.contracts.carried import Carried
from actors.contracts.subjects import is_tenant

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Tenant(Carried):
    """What is kept of a tenant, under its token."""

    name: str


def token_of(name: str) -> str:
    """What stands for a tenant of this name in subjects. Raises ValueError for what can be no name.

    A name that can stand there does; of every other it is a hash.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a tenant's name: take up to 63 small letters, digits, dots, dashes and underscores, "
            "beginning with a letter or a digit"
        )
    if is_tenant(name):
        return name
    return base64.b32encode(hashlib.sha256(name.encode()).digest()[:17])[:26].decode().lower()
