"""A tenant has as many streams open in a process as it may have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from actors.contracts.limits import LIMITS, Limits
from actors.http.audience import Audience
from actors.http.caller import Caller
from actors.http.problem import Refusal
from actors.journal.mirror import Mirror

ACME, OTHER = Caller("acme"), Caller("other")


class Knowing(Mirror[Limits]):
    """A mirror of what a test has set."""

    def __init__(self, **limits: Limits) -> None:
        super().__init__(LIMITS, Limits)
        self._values.update(limits)


def audience() -> Audience:
    return Audience(Knowing(acme=Limits(readers=2)))


def test_who_has_all_its_streams_is_refused_until_one_is_closed() -> None:
    readers = audience()
    with ExitStack() as first:
        first.enter_context(readers.place(ACME))
        readers.must_have_room(ACME)
        with readers.place(ACME):
            with pytest.raises(Refusal) as refused:
                readers.must_have_room(ACME)
            readers.must_have_room(OTHER)
        readers.must_have_room(ACME)
    refusal = refused.value
    assert (refusal.kind.status, refusal.more) == (429, {"limit": "readers", "most": 2})
    assert dict(refusal.headers or {})["Retry-After"] in refusal.detail


def test_who_comes_back_is_let_in_before_its_lost_stream_is_missed() -> None:
    readers = audience()
    with ExitStack() as open_streams:
        for _ in range(4):
            readers.must_have_room(ACME, returning=True)
            open_streams.enter_context(readers.place(ACME))
        with pytest.raises(Refusal):
            readers.must_have_room(ACME, returning=True)


def test_who_has_no_limit_is_let_in() -> None:
    readers = audience()
    with ExitStack() as open_streams:
        for _ in range(100):
            readers.must_have_room(OTHER)
            open_streams.enter_context(readers.place(OTHER))


async def test_a_stream_that_breaks_off_leaves_its_place() -> None:
    @asynccontextmanager
    async def stream() -> AsyncIterator[None]:
        yield

    readers = audience()

    async def cut_off() -> None:
        async with readers.placed(ACME, stream()):
            readers.must_have_room(ACME)
            raise ConnectionError

    for _ in range(5):
        with pytest.raises(ConnectionError):
            await cut_off()
