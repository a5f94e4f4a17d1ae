"""A session: a browser's leave to read one job's events, in a cookie, because its EventSource can send no key."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import HTTPConnection
from starlette.responses import Response

from actors.contracts.subjects import is_job
from actors.http.caller import caller_of
from actors.http.keyring import Keyring

COOKIE = "headrace_events"
LIFE_S = 3_600
"""How long a session is good for; a stream that is open when it ends goes on to its own end."""

EVENTS = "/v1/events"


def begin(request: HTTPConnection, keyring: Keyring, job: str) -> Response:
    """The answer that begins a session of its caller's; where nobody needs a key there is nothing to begin."""
    answer = Response(status_code=204, headers={"Cache-Control": "no-store"})
    caller = caller_of(request)
    if caller.key:
        expires = int(keyring.now().timestamp()) + LIFE_S
        signature = keyring.sign(caller, _said(job, expires))
        answer.set_cookie(
            COOKIE,
            f"{caller.key}.{expires}.{signature}",
            max_age=LIFE_S,
            path=f"{EVENTS}/{job}",
            secure="https" in (request.url.scheme, request.headers.get("X-Forwarded-Proto")),
            httponly=True,
            samesite="strict",
        )
    return answer


def said_by(request: HTTPConnection, now: datetime) -> tuple[str, str, str] | None:
    """The key, what was said and the signature in a session's cookie, where that counts: for reading its events."""
    job = request.scope["path"].removeprefix(f"{EVENTS}/").removesuffix("/ws")
    reads = request.scope["type"] == "websocket" or request.scope["method"] in ("GET", "HEAD")
    parts = request.cookies.get(COOKIE, "").split(".")
    if not (reads and is_job(job) and len(parts) == 3 and parts[1].isdecimal() and len(parts[1]) < 16):
        return None
    key, expires, signature = parts
    if int(expires) <= now.timestamp():
        return None
    return key, _said(job, int(expires)), signature


def _said(job: str, expires: int) -> str:
    return f"events {job} until {expires}"
