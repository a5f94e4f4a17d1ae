"""Reports: jobs, pipelines and stages as HTTP shows them; `actors/replies.py` reads them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from actors.contracts.errors import Failure
from actors.contracts.events import Cancelled, Completed, DeadLettered, Failed, Origin
from actors.contracts.fold import JobState, Status
from actors.contracts.subjects import Lane
from actors.contracts.view import question
from actors.journal.lag import Lag
from actors.journal.room import Room
from actors.pipeline import Pipeline, Stage
from actors.runtime.presence import WorkerStatus
from actors.runtime.scaling import Decision, Rule

UNDECIDED = "nobody says what was decided; Serve's controller may be away, or without a nats-server"

Report = dict[str, Any]
"""What pydantic turns into JSON."""


def accepted(job: str, lane: Lane, origin: Origin, status: Status = "queued") -> Report:
    """What is known of a job from its acceptance on."""
    return {
        "id": job,
        "status": status,
        "pipeline": origin.pipeline,
        "version": origin.version,
        "lane": lane,
        "created": origin.created,
        "deadline": origin.deadline,
        "links": links(job),
    }


def links(job: str) -> dict[str, str]:
    """Where a job is found."""
    return {"self": f"/v1/jobs/{job}", "events": f"/v1/events/{job}"}


def job(id: str, lane: Lane, state: JobState) -> Report:
    """A job as it stands: what it has said until it is completed, then its answer."""
    cancelling = state.outcome is None and state.step is not None and state.step.cancel
    return accepted(id, lane, state.origin, state.status) | {
        "cancelling": cancelling,
        "updated": state.updated,
        "stage": state.stage,
        "attempts": state.attempts,
        **({"waits_until": state.waits_until} if state.waits_until else {}),
        **({"question": {"id": state.question.n, **question(state.question)}} if state.question else {}),
        "usage": state.usage.model_dump(),
        "metadata": state.origin.metadata,
        **({"redriven_from": state.origin.redriven_from} if state.origin.redriven_from else {}),
        **_end(state),
    }


def _end(state: JobState) -> Report:
    """How a job ended, or what it has said so far."""
    said = {"text": state.text} if state.text else {}
    match state.outcome:
        case Completed(answer=answer):
            return {"stage": None, "answer": answer.body}
        case Failed(stage=stage, error=error):
            return {**said, "stage": stage, "error": _error(error)}
        case Cancelled(reason=reason):
            return {**said, "reason": reason}
        case DeadLettered() as dead:
            error = dead.errors[-1] if dead.errors else Failure(type="Crashed", message=dead.reason)
            said = {"text": dead.partial} if dead.partial else said
            return {
                **said,
                "stage": dead.stage,
                "attempts": dead.attempts,
                "reason": dead.reason,
                "error": _error(error),
            }
    return said


def _error(error: Failure) -> Report:
    return {"type": error.type, "message": error.message}


def pipeline(pipeline: Pipeline, versions: Sequence[Pipeline] = ()) -> Report:
    """A pipeline, with the JSON schemas of what it takes and what it answers; `versions` are all that are served."""
    return {
        "name": pipeline.name,
        "version": pipeline.version,
        "input": pipeline.input.model_json_schema(),
        "answer": pipeline.answer.model_json_schema(mode="serialization"),
        "stages": [stage.name for stage in pipeline.stages],
        "routes": [route._asdict() for route in pipeline.routes],
        "finishing": [version.version for version in versions if version is not pipeline],
    }


UNSERVED = "no pipeline that is served here has this stage: serve the version that has it too, or cancel what waits"


def unserved(stage: str, lags: Iterable[Lag], *, now: datetime) -> Report:
    """A stage that no pipeline has any more, and what waits for one that does."""
    return _waiting(stage, (), lags, now) | {
        "replicas": [],
        "scaling": None,
        "tokens_waiting": None,
        "unknown": [],
        "note": UNSERVED,
    }


def stage(
    stage: Stage,
    pipelines: Sequence[str],
    lags: Iterable[Lag],
    workers: Iterable[WorkerStatus],
    decision: Decision | None,
    *,
    now: datetime,
) -> Report:
    """A stage: its lag, as a whole and per lane, its replicas, and what was decided on their number."""
    here = list(workers)
    return _waiting(stage.name, pipelines, lags, now) | {
        "replicas": [_replica(worker, now) for worker in here],
        "scaling": _scaling(stage, decision),
        "tokens_waiting": decision.tokens_waiting if decision else None,
        "unknown": _unknown(here),
        "note": None,
    }


def _waiting(stage: str, pipelines: Sequence[str], lags: Iterable[Lag], now: datetime) -> Report:
    lanes = {lag.lane: _backlog(lag, now) for lag in lags}
    ages = [lane["oldest_age_s"] for lane in lanes.values() if lane["oldest_age_s"] is not None]
    return {
        "stage": stage,
        "pipelines": list(pipelines),
        "waiting": sum(lane["waiting"] for lane in lanes.values()),
        "running": sum(lane["running"] for lane in lanes.values()),
        "oldest_age_s": max(ages, default=None),
        "lanes": lanes,
    }


def _unknown(workers: Iterable[WorkerStatus]) -> list[Report]:
    """The versions that a stage's workers do not know, and how many of its running jobs wait for them."""
    counts: Counter[tuple[str, str]] = Counter()
    for worker in workers:
        counts.update({(u.pipeline, u.version): u.jobs for u in worker.unknown})
    return [{"pipeline": p, "version": v, "jobs": n} for (p, v), n in sorted(counts.items())]


def _replica(worker: WorkerStatus, now: datetime) -> Report:
    return {
        "worker": worker.worker,
        "state": worker.state,
        "role": worker.role,
        "detail": worker.detail or None,
        "done": worker.done,
        "for_s": max(0.0, round(now.timestamp() - worker.since, 1)),
        "jobs": worker.jobs,
        "free": worker.free,
    }


def _scaling(stage: Stage, decision: Decision | None) -> Report:
    """How many replicas there are to be, spares among them, and why. A declared number is not decided on."""
    match stage.replicas:
        case int(number):
            said = {"min": number, "max": number, "wanted": number, "reason": "that many were declared"}
            return {**said, "spare": 0}
        case bounds:
            rule = Rule.of(stage, bounds)
            wanted, reason = (decision.replicas, decision.reason) if decision else (None, UNDECIDED)
            return {"min": rule.least, "max": rule.most, "wanted": wanted, "reason": reason, "spare": bounds.spare}


def room(room: Room) -> Report:
    """How full the log is."""
    return {
        "bytes": room.bytes,
        "max_bytes": room.max_bytes if room.max_bytes > 0 else None,
        "jobs": room.jobs,
        "max_jobs": room.max_jobs,
        "dead_letters": room.dead_letters,
        "max_dead_letters": room.max_dead_letters,
    }


def _backlog(lag: Lag, now: datetime) -> Report:
    age = max(0.0, round((now - lag.oldest).total_seconds(), 3)) if lag.oldest else None
    return {"waiting": lag.waiting, "running": lag.running, "oldest_age_s": age}
