"""The rule by which a worker that was refused, or given a hand-off that is not fresh, decides what to do."""

from __future__ import annotations

import enum
from datetime import datetime

from actors.contracts.fold import StepState
from actors.contracts.retry import DELIVERIES, Retry


class Verdict(enum.Enum):
    """What a worker does next about a hand-off."""

    ACK = "it is closed or gone: abort the engine and ack; nothing is run again"
    LET_GO = "somebody else has it: abort the engine; no append, no ack, no nak, no lease"
    ASK_OWNER = "somebody else began it: ask whether it still runs it"
    CANCEL = "somebody wants it stopped: the outcome is cancelled"
    EXPIRE = "the deadline has passed: the outcome is expired, or aborted if nobody ever began"
    GO_ON = "it is mine: go on from what the log holds"
    HAND_BACK = "it failed or was released, or its time to be tried again has not come: nak"
    BURY = "a budget is used up: the outcome is a dead letter"
    CLAIM = "nobody has it: append step.started, expecting what this fold saw"


def decide(
    state: StepState | None,
    claim: str,
    *,
    claiming: bool,
    gone: str | None,
    now: datetime,
    retry: Retry,
    deliveries: int,
) -> Verdict:
    """The first that applies, for the worker that holds a delivery of the hand-off under `claim`.

    `claiming` says that it has not begun: what was refused is its `step.started`, or nothing yet. `gone` is the claim
    whose owner was asked and does not run it any more.
    """
    if state is None or state.closed:
        return Verdict.ACK
    mine = state.owned_by(claim)
    if not mine and not claiming:
        return Verdict.LET_GO
    if not mine and state.open and not (gone and state.owned_by(gone)):
        return Verdict.ASK_OWNER
    if state.cancel:
        return Verdict.CANCEL
    if now >= state.handoff.origin.deadline:
        return Verdict.EXPIRE
    if mine:
        return Verdict.GO_ON if state.open else Verdict.HAND_BACK
    if retry.spent(state.failures, state.crashes) or deliveries >= DELIVERIES:
        return Verdict.BURY
    if state.retry_at is not None and not state.open and now < state.retry_at:
        return Verdict.HAND_BACK
    return Verdict.CLAIM
