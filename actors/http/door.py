"""The door: whoever has no good key, or is sent by a foreign site, comes no further."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from actors.http.caller import let_in
from actors.http.keyring import NO_LONGER, PATIENCE_S, Keyring, Stay
from actors.http.problem import FOREIGN_SITE, Refusal
from actors.http.session import said_by

Say = Callable[[Refusal], Response]

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What everybody may ask: whoever watches the process has no key."""

RESUME_S = 120.0
"""How long a reader that comes back waits for the keys to be read."""

_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "If-None-Match")
_SHOWN = ("Location", "ETag", "Retry-After", "Idempotency-Key", "Idempotent-Replay", "WWW-Authenticate")


def behind_door(app: Starlette, keyring: Keyring, origins: Iterable[str], say: Callable[[str], Say]) -> None:
    """Put this application behind the door; pages of these origins may ask, and read what is answered.

    `say` has the words in which requests for a path are refused.
    """
    allowed = list(origins)
    app.add_middleware(Door, keyring=keyring, origins=allowed, say=say)
    if allowed:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=_SENT,
            expose_headers=_SHOWN,
            allow_credentials=True,
        )


class Door:
    """Lets in whoever brings `Authorization: Bearer <key>`, or the cookie of a session to that session's events.

    Everything but a few paths is behind it, so a new route is closed before anybody thinks of it. Whose key is revoked
    or expires while an answer is given is put out: the answer ends there.
    """

    def __init__(self, app: ASGIApp, *, keyring: Keyring, origins: Iterable[str], say: Callable[[str], Say]) -> None:
        self._app = app
        self._keyring = keyring
        self._origins = frozenset(origins)
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        sending = _Sending(send)
        try:
            stay = await self._admit(request)
        except Refusal as refusal:
            await self._refuse(refusal, scope, receive, sending)
            return
        leave = asyncio.timeout(None)
        try:
            async with leave:
                with self._keyring.present(stay, leave):
                    await self._app(let_in(scope, stay.caller), receive, sending)
        except TimeoutError:
            if not leave.expired():
                raise
            await self._refuse(NO_LONGER, scope, receive, sending)

    async def _admit(self, request: HTTPConnection) -> Stay:
        # A browser that resumes takes a 503 for the end; it is let wait for the log instead.
        patience = RESUME_S if "Last-Event-ID" in request.headers else PATIENCE_S
        if (signed := said_by(request, self._keyring.now())) and "Authorization" not in request.headers:
            self._check_site(request)
            return await self._keyring.admit_signed(*signed, patience=patience)
        stay = await self._keyring.admit(_key_in(request), patience=patience)
        if not stay.caller.key:
            self._check_host(request)
            self._check_site(request)
        return stay

    def _check_host(self, request: HTTPConnection) -> None:
        """Where nobody needs a key, a page from elsewhere must not pass for this machine by a name of its own.

        Source: DNS rebinding. Raises Refusal.
        """
        if not _is_this_machine(f"//{request.headers.get('Host', '')}"):
            raise Refusal(
                FOREIGN_SITE,
                "Without keys it answers to this machine's own names only, such as localhost. To be reached by another "
                "name, make a key: `headrace keys create --tenant NAME`.",
            )

    def _check_site(self, request: HTTPConnection) -> None:
        """What a browser sends along by itself must not be of use to other sites. Raises Refusal."""
        origin = request.headers.get("Origin")
        if origin is None or origin in self._origins:
            return
        own = urlsplit(origin).netloc == request.headers.get("Host")
        if not own and not (self._keyring.is_open and _is_this_machine(origin)):
            raise Refusal(
                FOREIGN_SITE,
                f"Pages of {origin[:100]} may not ask here. To let them, start it with HEADRACE_CORS_ORIGINS.",
            )

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, sending: _Sending) -> None:
        if scope["type"] == "websocket":
            await _deny(self._say(scope["path"])(refusal), scope, receive, sending)
        elif not sending.has_begun:
            await self._say(scope["path"])(refusal)(scope, receive, sending)
        elif not sending.has_ended:
            await sending({"type": "http.response.body", "body": b"", "more_body": False})


class _Sending:
    """What has been sent of an answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False
        self.has_ended = False

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        last = message["type"] == "http.response.body" and not message.get("more_body")
        self.has_ended = last or message["type"] == "websocket.close"
        await self._send(message)


async def _deny(answer: Response, scope: Scope, receive: Receive, sending: _Sending) -> None:
    """Refuse a WebSocket, or end one that is open. Source: RFC 6455, 1008 is a violation of policy."""
    if not sending.has_begun and "websocket.http.response" in scope.get("extensions", {}):
        await WebSocket(scope, receive, sending).send_denial_response(answer)
    elif not sending.has_ended:
        await sending({"type": "websocket.close", "code": 1008, "reason": "a key is needed"})


def _key_in(request: HTTPConnection) -> str | None:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text.strip() else None


@lru_cache(maxsize=64)
def _is_this_machine(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
