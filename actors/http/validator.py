"""A validator: by which a client sees that a job is still as it knows it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from actors.contracts.chain import Chain


def etag(chain: Chain) -> str:
    """Made of the job's last event. Weak: another version of this program may tell the same in other bytes."""
    return f'W/"{chain.n}.{chain.seq}"'


def headers_of(tag: str) -> dict[str, str]:
    """What goes with it: the answer may be kept, and is asked about each time."""
    return {"ETag": tag, "Cache-Control": "private, no-cache"}


def unchanged(request: Request, headers: dict[str, str]) -> Response | None:
    """304 for a client that has just this (RFC 9110, 13.1.2)."""
    tag = headers["ETag"]
    known = [one.strip() for one in ",".join(request.headers.getlist("If-None-Match")).split(",")]
    if "*" in known or tag in known or tag.removeprefix("W/") in known:
        return Response(status_code=304, headers=headers)
    return None
