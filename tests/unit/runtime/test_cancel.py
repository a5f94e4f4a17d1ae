"""What is done next about a job that somebody wants stopped, by what its log says."""

from __future__ import annotations

import pytest

from actors.contracts.events import Cancelled, CancelRequested
from actors.contracts.fold import fold_job
from actors.runtime.cancel import Stop, decide_stop
from tests.records import ORIGIN, Log


def stop(history: str, *, gone: str | None = None) -> Stop:
    """Claims by letter, F and R for how the last one ended, X a cancel, W another hand-off, E the outcome."""
    log, owner = Log(), ""
    log.hand_off()
    for what in history:
        match what:
            case "F":
                log.fail(owner)
            case "R":
                log.release(owner)
            case "X":
                log.add(CancelRequested)
            case "W":
                log.hand_off("polish")
            case "E":
                log.add(Cancelled, origin=ORIGIN)
            case claim:
                owner = claim
                log.start(claim)
    state = fold_job(log.records)
    assert state is not None
    return decide_stop(state, gone=gone)


@pytest.mark.parametrize(
    ("history", "gone", "expected"),
    [
        ("E", None, Stop.NOTHING),
        ("aXE", None, Stop.NOTHING),
        ("aXE", "a", Stop.NOTHING),
        ("", None, Stop.END),
        ("W", None, Stop.END),
        ("aF", None, Stop.END),
        ("aR", None, Stop.END),
        ("aW", None, Stop.END),
        ("a", "a", Stop.END),
        ("aX", "a", Stop.END),
        ("abX", "b", Stop.END),
        ("a", None, Stop.ASK),
        ("aFb", None, Stop.ASK),
        ("ab", "a", Stop.ASK),
        ("aWb", None, Stop.ASK),
        ("aX", None, Stop.TELL),
        ("abX", "a", Stop.TELL),
    ],
)
def test_the_first_that_applies(history: str, gone: str | None, expected: Stop) -> None:
    assert stop(history, gone=gone) is expected
