from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from actors.http import reports
from actors.pipeline import Replicas
from actors.replies import Replica, StageReport
from actors.runtime.presence import WorkerStatus
from actors.runtime.scaling import Decision
from tests.pipelines import recite

NOW = datetime(2026, 11, 23, tzinfo=UTC)
DECIDED = Decision(replicas=2, reason="9 wait and 3 run, 8 for each replica")


def a_report(
    replicas: int | Replicas, decision: Decision | None = None, workers: tuple[WorkerStatus, ...] = ()
) -> StageReport:
    told = reports.stage(replace(recite, replicas=replicas), ["recital"], [], workers, decision, now=NOW)
    return StageReport.model_validate(told)


@pytest.mark.parametrize(
    ("replicas", "decision", "told"),
    [
        (3, None, {"min": 3, "max": 3, "wanted": 3, "reason": "that many were declared", "spare": 0}),
        (Replicas(min=1, max=4), DECIDED, {"min": 1, "max": 4, "wanted": 2, "reason": DECIDED.reason, "spare": 0}),
        (Replicas(max=4), None, {"min": 0, "max": 4, "wanted": None, "reason": reports.UNDECIDED, "spare": 0}),
        (Replicas(max=4, spare=1), None, {"min": 1, "max": 5, "wanted": None, "reason": reports.UNDECIDED, "spare": 1}),
    ],
)
def test_a_stage_tells_how_many_replicas_it_is_to_have_and_why(
    replicas: int | Replicas, decision: Decision | None, told: dict[str, Any]
) -> None:
    scaling = a_report(replicas, decision).scaling
    assert scaling
    assert scaling.model_dump() == told


def test_a_stage_tells_about_how_many_tokens_wait_where_that_is_estimated() -> None:
    decided = DECIDED.model_copy(update={"tokens_waiting": 41_234})
    assert a_report(Replicas(max=4, tokens_per_replica=8_000), decided).tokens_waiting == 41_234
    assert a_report(Replicas(max=4), DECIDED).tokens_waiting is None
    assert a_report(3).tokens_waiting is None


def test_a_replica_that_starts_is_told_with_what_it_does_and_for_how_long() -> None:
    since, doing = NOW.timestamp() - 12.34, "loading weights, 40 %"
    status = WorkerStatus(
        worker="recite-1", stage="recite", state="loading", detail=doing, since=since, done=0.4, role="overflow"
    )
    (replica,) = a_report(1, workers=(status,)).replicas
    assert replica == Replica(
        worker="recite-1", state="loading", role="overflow", detail=doing, done=0.4, for_s=12.3, free=0
    )
