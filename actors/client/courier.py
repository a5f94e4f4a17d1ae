"""The courier: it carries requests to the server until they are answered, and streams back."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from actors.client.errors import BadRequest, ClientError, NotFound, Refused, Unavailable, Unintelligible, Unreachable
from actors.client.patience import Patience
from actors.client.wish import Wish
from actors.replies import Problem

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_S = 5.0
ANSWER_S = 30.0
SILENCE_S = 60.0
"""Seconds after which a stream that brings nothing, not even a heartbeat, is taken to be cut."""

NOT_NOW = frozenset({429, 502, 503, 504})
"""The statuses that say: the same request again, later."""

log = logging.getLogger(__name__)


class Courier:
    """Tries again while the server cannot be reached or says "not now", as long as `patience` lasts."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        patience: Patience,
        transport: httpx.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[None]],
        rng: Random,
    ) -> None:
        self.url = _base(url)
        self.patience = patience
        self._sleep = sleep
        self._rng = rng
        # Every open stream holds a connection, so there is no limit to them.
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=_authorization(api_key),
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            transport=transport,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def ask(
        self,
        model: type[T],
        method: str,
        path: str,
        wish: Wish | None = None,
        *,
        params: Mapping[str, str] | None = None,
        wait: int | None = None,
    ) -> T:
        """What the server says, once it answers with a success. It may take `wait` seconds longer to, for an outcome.

        Raises Refused, Unavailable and Unreachable once `patience` is over, and Unintelligible for another answer.
        """
        body, headers, key = (wish.body, wish.headers, wish.key) if wish else (None, dict[str, str](), None)
        if wait is not None:
            headers = {**headers, "Prefer": f"wait={wait}"}
        timeout = httpx.Timeout(ANSWER_S + (wait or 0), connect=CONNECT_S)
        failures = 0
        while True:
            asked: float | None = None
            trouble: ClientError
            try:
                response = await self._http.request(
                    method, path, content=body, headers=headers, params=params, timeout=timeout
                )
                if response.is_success:
                    return _read(model, response)
                raise _refusal(response, key)
            except httpx.TransportError as error:
                trouble = Unreachable(str(self.url), error, key=key)
            except Unavailable as error:
                trouble, asked = error, error.retry_after
            failures += 1
            if self.patience.gives_up(failures, asked=asked):
                raise trouble
            log.info("trying again", extra={"action": "request.retry", "path": path, "why": str(trouble)})
            await self.pause(failures, asked=asked)

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """An answer that comes bit by bit, once: a success. Raises what `ask` raises, and httpx.TransportError."""
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        async with self._http.stream("GET", path, params=params, headers=headers, timeout=timeout) as response:
            if not response.is_success:
                await response.aread()
                raise _refusal(response)
            yield response

    async def pause(self, failures: int, *, asked: float | None = None) -> None:
        """Wait as long as one does after so many failures in a row, and at least as long as was asked for."""
        await self._sleep(self.patience.delay(failures, self._rng, asked=asked))


def _authorization(api_key: str | None) -> dict[str, str]:
    """The key that was given, or that HEADRACE_API_KEY names. Raises BadRequest when it can stand in no header."""
    if api_key is None:
        api_key = os.environ.get("HEADRACE_API_KEY", "").strip()
        if not api_key:
            return {}
    if not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key and api_key):
        raise BadRequest("the API key cannot stand in a header; take it as `headrace keys create` printed it")
    return {"Authorization": f"Bearer {api_key}"}


def _base(url: str) -> httpx.URL:
    """Raises BadRequest when `url` is no place to send requests to."""
    try:
        base = httpx.URL(url)
        base.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise BadRequest(f"{url!r} is no URL: {error}") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise BadRequest(f"{url!r} is not the URL of a server; it looks like {DEFAULT_URL}")
    return base


def _read(model: type[T], response: httpx.Response) -> T:
    """Raises Unintelligible when the body is something else."""
    try:
        return TypeAdapter(model).validate_json(response.content)
    except ValidationError as error:
        raise Unintelligible(f"{response.url} did not answer as Headrace does; is this its URL?") from error


def _refusal(response: httpx.Response, key: str | None = None) -> ClientError:
    """The error that an answer without success stands for."""
    status = response.status_code
    try:
        problem = Problem.model_validate({**response.json(), "status": status})
    except (ValueError, TypeError):
        # A proxy in between says "not now" in its own words; anything else comes from a stranger.
        if status not in NOT_NOW:
            return Unintelligible(f"{response.url} answered {status}, and not as Headrace does; is this its URL?")
        problem = Problem(status=status, title=response.reason_phrase)
    if status in NOT_NOW:
        return Unavailable(problem, retry_after=_seconds(response.headers.get("Retry-After")), key=key)
    return NotFound(problem) if status == 404 else Refused(problem)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is only sent by caches and is passed over."""
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
