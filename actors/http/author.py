"""The author: the name under which a request writes into the log."""

from __future__ import annotations

import re
import secrets

from starlette.requests import Request

_REQUEST = re.compile(r"[A-Za-z0-9._-]{1,64}")


def author(request: Request) -> str:
    """`ingress/<request>`, by the name that a proxy gave the request, if it can stand in the log; or a new one."""
    given = request.headers.get("X-Request-ID", "")
    return f"ingress/{given if _REQUEST.fullmatch(given) else secrets.token_hex(8)}"
