"""Answer: this is how a job that asks is told."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Sequence

from pydantic import JsonValue

from actors.contracts.events import HandOff, InputRequired, Record, Told
from actors.contracts.fold import JobState
from actors.runtime.again import give_out_again
from actors.runtime.job_log import JobLog


class Hearing(enum.Enum):
    """How an answer is taken."""

    TOLD = "it is asked now: the step is given out again, with the answer"
    KNOWN = "it was answered so before"
    OTHERWISE = "it was answered otherwise"
    TOO_LATE = "nobody had answered in time, and the step was told so"
    NOT_ASKED = "the job does not ask that"


def hear(records: Sequence[Record], state: JobState, question: int, answer: JsonValue) -> Hearing:
    """How the answer to the question with this number is to be taken."""
    if state.question and state.question.n == question:
        return Hearing.TOLD
    for record in records:
        if isinstance(record.event, HandOff) and (told := record.event.told) and told.question == question:
            if told.timed_out:
                return Hearing.TOO_LATE
            return Hearing.KNOWN if _canonical(told.answer) == _canonical(answer) else Hearing.OTHERWISE
    return Hearing.NOT_ASKED


async def tell(
    log: JobLog, question: int, answer: JsonValue, check: Callable[[InputRequired, JsonValue], None]
) -> Hearing | None:
    """Tell a job the answer to the question with this number; `log.state` is how the job stands then.

    None when there is no such job. Doing it again is harmless, and an answer to an older question is never taken for a
    newer one. `check` raises where the answer is none to this question.
    """
    while (state := log.state) is not None:
        heard = hear(log.records, state, question, answer)
        if heard is not Hearing.TOLD or state.step is None or state.question is None:
            return heard
        check(state.question, answer)
        told = Told(question=question, key=state.question.key, answer=answer)
        if await give_out_again(log, state.step, told):
            return heard
    return None


def _canonical(answer: JsonValue) -> str:
    return json.dumps(answer, sort_keys=True)
