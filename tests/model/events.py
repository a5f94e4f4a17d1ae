"""The log of the model: one letter is one event, and a fold says what they mean for a step."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

WORDS = {
    "W": "hand-off(write)",
    "P": "hand-off(polish)",
    "V": "hand-off(write, of the first)",
    "Q": "hand-off(polish, of the first)",
    "a": "delta(1 token)",
    "b": "delta(2 tokens)",
    "F": "step.failed",
    "R": "step.released",
    "I": "input.required",
    "C": "cancel.requested",
    "K": "completed",
    "X": "failed",
    "N": "cancelled",
    "E": "expired",
    "D": "dead_lettered",
    "G": "review.redriven",
    **dict.fromkeys("0123456789", "step.started"),
}
"""A digit is the claim of its `step.started`; 0 once nobody holds that claim any more."""

AGAIN = {"W": "V", "V": "V", "P": "Q", "Q": "Q"}
"""What gives a step out again, by what gave it out before."""

HANDOFF, WRITE, OF, DELTA, OUTCOME, ASK = "WPVQ", "WV", "VQ", "ab", "KXNED", "I"


class Fold(NamedTuple):
    """What the log says about the step that one of its hand-offs gave out."""

    closed: bool
    starts: int
    failures: int
    crashes: int
    tokens: int
    owner: str
    open: bool
    cancel: bool
    verdict: str


@cache
def handoffs(log: str) -> tuple[int, ...]:
    """Where the hand-offs stand."""
    return tuple(i for i, event in enumerate(log) if event in HANDOFF)


@cache
def fold(log: str, h: int, closing: str = OUTCOME + HANDOFF + ASK, anew: bool = False, costly: bool = False) -> Fold:
    """What a reader of the whole log knows about the h-th hand-off.

    The step begins at the first hand-off that gave it out; `anew` forgets that, `closing` is what ends it, and `costly`
    counts a question as a crash: all for mutants.
    """
    at = handoffs(log)[h]
    first = at if anew else max(i for i in handoffs(log)[: h + 1] if log[i] not in OF)
    end = next((i for i in range(at + 1, len(log)) if log[i] in closing), None)
    step = log[first + 1 : end]
    if end is not None and log[end] == ASK:
        step += ASK  # it ends the attempt too
    verdicts = [event for event in step if event.isdigit() or event in "FR" + ASK]
    starts = [event for event in verdicts if event.isdigit()]
    failures, newest = step.count("F"), "".join(verdicts[-1:])
    return Fold(
        closed=end is not None,
        starts=len(starts),
        failures=failures,
        crashes=len(starts) - failures - step.count("R") - (0 if costly else step.count(ASK)),
        tokens=sum(DELTA.find(event) + 1 for event in step),
        owner="".join(starts[-1:]),
        open=newest.isdigit(),
        cancel="C" in step,
        verdict=newest,
    )
