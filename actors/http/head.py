"""The head of a request, within limits: its address and its headers."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from actors.http.problem import TOO_LONG, TOO_MANY_HEADERS, Refusal

MAX_ADDRESS = 4 << 10
MAX_HEADERS = 64
MAX_HEADER_BYTES = 12 << 10
"""Below what the proxy in front has room for (16 KiB, with the address): it would refuse without saying why."""


class Head:
    """Refuses a request whose head is too large, before anybody looks at it; around an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(scope) if scope["type"] == "http" else None
        await (refusal.answer() if refusal else self._app)(scope, receive, send)


def _refusal(scope: Scope) -> Refusal | None:
    address = len(scope.get("raw_path") or scope["path"].encode()) + len(scope.get("query_string", b""))
    if address > MAX_ADDRESS:
        detail = f"The path and the query have {address:,} bytes, and may have {MAX_ADDRESS:,}: ask for less at once."
        return Refusal(TOO_LONG, detail, limit=MAX_ADDRESS)
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        found = f"There are {len(headers):,} headers with {size:,} bytes"
        most = f"there may be {MAX_HEADERS} with {MAX_HEADER_BYTES:,}"
        return Refusal(TOO_MANY_HEADERS, f"{found}, and {most}: leave some out, cookies first.")
    return None
