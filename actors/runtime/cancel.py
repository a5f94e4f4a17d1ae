"""Cancel: this is how a job is stopped from outside."""

from __future__ import annotations

import enum

from actors.contracts.events import Cancelled, CancelRequested
from actors.contracts.fold import JobState
from actors.runtime.job_log import JobLog
from actors.runtime.presence import Owners


class Stop(enum.Enum):
    """What is done next about a job that somebody wants stopped."""

    NOTHING = "it has its outcome"
    END = "nobody runs it: the outcome is cancelled"
    ASK = "somebody runs it: append cancel.requested, after which only an outcome is stored"
    TELL = "it was asked to stop: its owner ends it, and is told so beside the log"


def decide_stop(state: JobState, *, gone: str | None) -> Stop:
    """The first that applies. `gone` is the claim whose owner was asked and does not run it any more."""
    step = state.step
    if state.outcome is not None or step is None:
        return Stop.NOTHING
    if not step.open or (gone is not None and step.owned_by(gone)):
        return Stop.END
    return Stop.TELL if step.cancel else Stop.ASK


async def cancel(log: JobLog, owners: Owners, reason: str | None) -> None:
    """Stop the job, or see to it that its owner does; `log.state` is how it stands then.

    Doing it again is harmless. A step that only computes (a function in a thread) cannot be interrupted: it goes on to
    its end, and what it returns is refused and dropped. What is said to the owner beside the log may get lost: then the
    owner sees it at its next append.
    """
    gone: str | None = None
    while (state := log.state) is not None:
        match decide_stop(state, gone=gone):
            case Stop.NOTHING:
                return
            case Stop.END:
                await _end(log, state, reason)
            case Stop.ASK:
                await log.append(lambda stamp: CancelRequested(**stamp, reason=reason))
            case Stop.TELL:
                owner = state.step.owner if state.step else None
                if owner is None or await owners.look(owner.worker, owner.claim) is not False:
                    return
                gone = owner.claim


async def _end(log: JobLog, state: JobState, reason: str | None) -> None:
    step = state.step
    assert step is not None
    why = step.cancel_reason if step.cancel else reason
    text = log.text_digest
    await log.append(lambda stamp: Cancelled(**stamp, origin=state.origin, reason=why, usage=step.total, text=text))
