"""Jobs, stages and pipelines laid out for a person: this is what a terminal shows when it is asked once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from actors.contracts.generation import JsonSchema, about
from actors.contracts.subjects import LANES
from actors.narration import answer_text, spent, visible
from actors.replies import (
    Backlog,
    DeadLetter,
    DeadLetterSummary,
    Delivery,
    Job,
    JobSummary,
    PipelineReport,
    Replica,
    Scaling,
    StageReport,
    Webhook,
)


def why_it_waits(job: Job, stages: Sequence[StageReport]) -> str:
    """What keeps a job from going on, as far as its stage can tell; empty when nothing does."""
    here = next((stage for stage in stages if stage.stage == job.stage), None)
    if here is None:
        return ""
    if not here.replicas:
        to_come = f"; {here.scaling.wanted} to come" if here.scaling and here.scaling.wanted else ""
        return f"no replica of {here.stage} answers yet" + to_come
    if not any(replica.state == "ready" for replica in here.replicas):
        return f"{here.stage} is not ready: " + "; ".join(map(_replica, here.replicas))
    if job.status == "queued" and here.waiting > 1:
        return f"{here.waiting} jobs wait for {here.stage}, the oldest for {age(here.oldest_age_s)}"
    return ""


def job_printout(job: Job, *, waits: str = "") -> str:
    """A job, one fact per line; `waits` is why it does not go on."""
    where = f" in {job.stage}" if job.stage and not job.ended else ""
    where += ", being stopped" if job.cancelling else ""
    attempt = f", attempt {job.attempts}" if job.attempts > 1 else ""
    partial = job.text if not job.ended else None
    asks = job.question
    facts = {
        "job": job.id,
        "status": job.status.replace("_", " ") + where + attempt,
        "asks": asks.question if asks else "",
        "expects": expected(asks.expects) if asks else "",
        "misfit": (asks.misfit if asks else "") or "",
        "reply": f"headrace answer {job.id} ANSWER" if asks else "",
        "until": _moment(job.waits_until) if job.waits_until else "",
        "waits": waits,
        "pipeline": f"{job.pipeline} {job.version}",
        "lane": job.lane,
        "created": _moment(job.created),
        "updated": _moment(job.updated),
        "deadline": "" if job.ended else _moment(job.deadline),
        "metadata": ", ".join(f"{name}={value}" for name, value in job.metadata.items()),
        "made of": job.redriven_from or "",
        "usage": spent(job.usage) if job.usage.prompt_tokens else "",
        "reason": job.reason or "",
        "error": str(job.error) if job.error else "",
        "text": partial or "",
        "answer": answer_text(job.answer).rstrip("\n") if job.answer is not None else "",
    }
    return _facts(facts)


def _facts(facts: dict[str, str]) -> str:
    """Those that are not empty, each under its name."""
    width = max(map(len, facts)) + 2
    margin = "\n" + " " * width
    return visible("\n".join(f"{name:<{width}}{v.replace(chr(10), margin)}" for name, v in facts.items() if v))


def jobs_printout(jobs: Sequence[JobSummary]) -> str:
    """A table of jobs, one a line."""
    head = ("ID", "CREATED", "PIPELINE", "LANE", "STATUS", "STAGE")
    return visible(_table([head, *map(_job_row, jobs)]))


def _job_row(job: JobSummary) -> tuple[str, ...]:
    return job.id, _moment(job.created), job.pipeline, job.lane, job.status.replace("_", " "), job.stage or ""


def webhooks_printout(webhooks: Sequence[Webhook]) -> str:
    """A table of webhooks, one a line."""
    head = ("ID", "CREATED", "URL", "EVENTS", "STATE", "DESCRIPTION")
    return visible(_table([head, *map(_webhook_row, webhooks)]))


def _webhook_row(webhook: Webhook) -> tuple[str, ...]:
    state = f"disabled: {webhook.why}" if webhook.disabled else "enabled"
    return webhook.id, _moment(webhook.created), webhook.url, " ".join(webhook.events), state, webhook.description


def deliveries_printout(deliveries: Sequence[Delivery]) -> str:
    """A table of deliveries, one a line, with what the last attempt of each brought."""
    head = ("ID", "CREATED", "EVENT", "JOB", "STATUS", "TRIES", "LAST", "NEXT")
    return visible(_table([head, *map(_delivery_row, deliveries)]))


def _delivery_row(delivery: Delivery) -> tuple[str, ...]:
    last = delivery.attempts[-1] if delivery.attempts else None
    said = delivery.reason or (last.error if last else "") or (str(last.status) if last else "")
    due = _moment(delivery.due) if delivery.due else ""
    job, tries = delivery.job or "", str(len(delivery.attempts))
    return delivery.id, _moment(delivery.created), delivery.event, job, delivery.status, tries, said[:80], due


def letters_printout(letters: Sequence[DeadLetterSummary]) -> str:
    """A table of dead letters, one a line."""
    head = ("ID", "DIED", "PIPELINE", "STAGE", "REVIEW", "ERROR")
    return visible(_table([head, *map(_letter_row, letters)]))


def _letter_row(letter: DeadLetterSummary) -> tuple[str, ...]:
    error = " ".join(str(letter.error or letter.reason).split())
    return (letter.id, _moment(letter.died), letter.pipeline, letter.stage, letter.review, error[:80])


def letter_printout(letter: DeadLetter) -> str:
    """A dead letter, one fact per line, then its errors and what happened to its job."""
    facts = {
        "job": letter.id,
        "review": letter.review + (f": {letter.discarded}" if letter.discarded else ""),
        "redriven": ", ".join(letter.redriven),
        "made of": letter.redriven_from or "",
        "pipeline": f"{letter.pipeline} {letter.version}",
        "stage": letter.stage,
        "reason": letter.reason,
        "attempts": f"{letter.attempts}, of which {letter.crashes} crashed",
        "created": _moment(letter.created),
        "died": _moment(letter.died),
        "metadata": ", ".join(f"{name}={value}" for name, value in letter.metadata.items()),
        "input": f"{letter.type} {json.dumps(letter.input, indent=2, ensure_ascii=False)}",
        "errors": "\n".join(map(str, letter.errors)) + ("\n(not all that there were)" if letter.cut else ""),
        "where": letter.errors[-1].trace.rstrip("\n") if letter.errors else "",
        "partial": letter.partial,
        "timeline": "\n".join(f"{_moment(fact.at)}  {fact.n}  {fact.kind}  by {fact.by}" for fact in letter.timeline),
    }
    return _facts(facts)


def stages_printout(stages: Sequence[StageReport]) -> str:
    """A table of the stages, jobs as waiting + running.

    Below a stage, what was decided on its number of replicas, if that is decided on, and those that are not ready.
    """
    rows = [("STAGE", "WAITING", "RUNNING", "OLDEST", *map(str.upper, LANES), "REPLICAS"), *map(_stage_row, stages)]
    head, *lines = _table(rows).split("\n")
    told = (
        line + "".join(f"\n  {said}" for said in _remarks(stage)) for line, stage in zip(lines, stages, strict=True)
    )
    return visible("\n".join((head, *told)))


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows with their columns aligned; no cell has a line end."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _remarks(stage: StageReport) -> list[str]:
    decided = [_scaling(stage.scaling)] if stage.scaling and stage.scaling.min != stage.scaling.max else []
    unknown = [
        f"{u.jobs} jobs of {u.pipeline} {u.version} wait: no replica knows that version; serve it too"
        for u in stage.unknown
    ]
    tokens = [f"about {about(stage.tokens_waiting)} tokens wait"] if stage.tokens_waiting else []
    not_ready = [_replica(replica) for replica in stage.replicas if _kind(replica) != "ready"]
    return [*([stage.note] if stage.note else []), *unknown, *decided, *tokens, *not_ready]


def _stage_row(stage: StageReport) -> tuple[str, ...]:
    lanes = (stage.lanes.get(lane, Backlog()) for lane in LANES)
    states = [_kind(replica) for replica in stage.replicas]
    replicas = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none"
    cells = (f"{lane.waiting} + {lane.running}" if lane.waiting or lane.running else "-" for lane in lanes)
    return (stage.stage, str(stage.waiting), str(stage.running), age(stage.oldest_age_s), *cells, replicas)


def _kind(replica: Replica) -> str:
    """What it is to the load: its state, or what it is for when it is ready for something else."""
    return replica.role if replica.state == "ready" and replica.role != "regular" else replica.state


def _scaling(scaling: Scaling) -> str:
    wanted = "an unknown number" if scaling.wanted is None else str(scaling.wanted)
    return f"{wanted} wanted, of {scaling.min} to {scaling.max}: {scaling.reason}"


def _replica(replica: Replica) -> str:
    detail = f": {replica.detail}" if replica.detail else ""
    so_long = f", for {age(replica.for_s)}" if replica.for_s is not None and replica.state != "ready" else ""
    return f"{replica.worker} is {replica.state}{detail}{so_long}"


def pipelines_printout(pipelines: Sequence[PipelineReport]) -> str:
    """The pipelines, each with what it takes, what it answers and what to type to use it."""
    return visible("\n\n".join(map(_outline, pipelines)))


def _outline(pipeline: PipelineReport) -> str:
    example = '"some text"' if pipeline.text_field else "'{…}'"
    return "\n".join(
        (
            f"{pipeline.name}  {pipeline.version}",
            f"  takes    {fields(pipeline.input)}",
            f"  stages   {', '.join(pipeline.stage_names)}",
            f"  answers  {fields(pipeline.answer)}",
            *([f"  finishes {', '.join(pipeline.finishing)}"] if pipeline.finishing else []),
            f"  try      headrace submit {pipeline.name} {example} --follow",
        )
    )


def expected(schema: JsonSchema) -> str:
    """What an answer has to be, in words."""
    return fields(schema) if "properties" in schema else _type(schema)


def fields(schema: JsonSchema) -> str:
    """The fields of an object, each with its type; those that may be left out in brackets."""
    required = schema.get("required", [])
    named = {name: f"{name}: {_type(field)}" for name, field in schema.get("properties", {}).items()}
    return ", ".join(said if name in required else f"[{said}]" for name, said in named.items()) or "no fields"


def _type(field: JsonSchema) -> str:
    if "anyOf" in field:
        return " or ".join(map(_type, field["anyOf"]))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return str(field.get("type") or field.get("$ref", "anything").rpartition("/")[2])


def _moment(at: datetime) -> str:
    return at.astimezone().isoformat(sep=" ", timespec="seconds")


def age(seconds: float | None) -> str:
    """A length of time in the largest unit that fits."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
