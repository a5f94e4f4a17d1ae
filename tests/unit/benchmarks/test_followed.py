from __future__ import annotations

import json

import pytest

from benchmarks.followed import EventReader, Followed
from benchmarks.generated import Generated, in_streams, rate


def frame(kind: str, **data: object) -> bytes:
    return f"id: 1.1\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


EVENTS = b"".join(
    [
        b"retry: 500\n\n",
        frame("handoff", at="2026-01-02T00:00:01Z"),
        frame("step.started", at="2026-01-02T00:00:02Z"),
        b": still here\n\n",
        frame("delta", at="2026-01-02T00:00:03Z", text="a"),
        frame("delta", at="2026-01-02T00:00:04Z", text="b"),
        frame("completed", at="2026-01-02T00:00:05Z", answer={"text": "ab"}, usage={"output_tokens": 2}),
    ]
)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_are_read_however_they_arrive(size: int) -> None:
    seen = Followed(posted=1.0)
    reader = EventReader(seen)
    for at in range(0, len(EVENTS), size):
        reader.feed(EVENTS[at : at + size])
    assert (seen.deltas, seen.tokens, seen.answer) == (2, 2, {"text": "ab"})
    assert {kind: [at % 60 for at in stamps] for kind, stamps in seen.stamps.items()} == {
        "handoff": [1.0],
        "step.started": [2.0],
        "delta": [3.0],
    }
    assert seen.posted < seen.first <= seen.last <= seen.ended


async def test_streams_share_the_numbers_and_make_theirs_in_turn() -> None:
    async def make(number: int) -> int:
        return number

    assert await in_streams(make, range(10, 16), streams=2, spread_s=0.0) == [[10, 12, 14], [11, 13, 15]]


def test_a_rate_is_what_each_stream_had_together() -> None:
    slow = [Generated(0.0, 1.0, 2.0, 10), Generated(2.0, 3.0, 4.0, 10)]
    fast = [Generated(0.0, 0.5, 1.0, 10)]
    assert rate([slow, fast]) == 20 / 4 + 10
