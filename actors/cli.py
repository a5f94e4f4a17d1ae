"""The command line, `headrace`: this is what people type."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from actors.audit.commands import audit
from actors.client import DEFAULT_URL, AsyncHeadrace, BadRequest, ClientError, Headrace, Patience, Refused
from actors.contracts.errors import HeadraceError
from actors.contracts.subjects import Lane
from actors.index.commands import index
from actors.keys import keys
from actors.narration import Narration, ending, visible
from actors.picture import Way, mermaid, svg
from actors.printout import (
    fields,
    job_printout,
    letter_printout,
    letters_printout,
    pipelines_printout,
    stages_printout,
    why_it_waits,
)
from actors.projection.commands import jobs
from actors.receivers import webhooks
from actors.replies import Completed, DeadLetterSummary, Event, Job, Outcome, PipelineReport, Reply
from actors.tenants import tenants

ASKING = Patience(tries=4)
"""For a question that a person waits for: a server that is not there should be known in two seconds."""
READING = Patience(tries=60)
"""For a job that is being followed: its server may be started again meanwhile, and load a model."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Turn slow AI calls into durable jobs, and watch them.

    A job that is submitted is on disk before its id is printed; it reaches exactly one outcome, whatever is restarted
    meanwhile.

    \b
    First steps:
      headrace up                                          start everything here
      headrace submit analysis "What is a headrace?" -f    submit a job and watch it
      headrace show ID                                     see how it stands, why it waits, what it asks
      headrace answer ID yes                               answer what it asks
      headrace cancel ID                                   stop it
      headrace jobs list                                   see which jobs there are
      headrace dead list                                   see what was given up
      headrace stages                                      see what waits and what runs
      headrace index FOLDER                                let questions be about your documents
      headrace keys create --tenant NAME                   let somebody else use it
      headrace webhooks create URL                         be told what becomes of jobs
      headrace audit verify                                check the record of everything

    Where keys are in use, put yours into HEADRACE_API_KEY.
    """,
)

dead = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Look at the jobs that used up their budget, and give them another life or let them be.

    A dead letter is kept for ever, with its input, its errors and what it had said.

    \b
    First steps:
      headrace dead list
      headrace dead show ID
      headrace dead redrive ID
      headrace dead discard ID --reason "a test"
    """,
)
app.add_typer(dead, name="dead", short_help="Look at jobs that used up their budget; redrive or discard them.")
app.command("index", short_help="Index a folder of documents, to be asked about.")(index)
app.add_typer(jobs, name="jobs", short_help="List jobs; make the list again.")
app.add_typer(keys, name="keys", short_help="Make, list and revoke the keys that open the HTTP API.")
app.add_typer(webhooks, name="webhooks", short_help="Say where outcomes are told; see deliveries, and replay them.")
app.add_typer(audit, name="audit", short_help="Check the log of what happened; export it; rebuild from it.")
app.add_typer(tenants, name="tenants", short_help="See and set what each tenant may have.")

Url = Annotated[str, typer.Option("--url", metavar="URL", envvar="HEADRACE_URL", help="The server.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as `headrace submit` prints it.")]
LetterIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="The jobs' ids.")]
OfPipeline = Annotated[str | None, typer.Option("--pipeline", metavar="NAME", help="Only of this pipeline.")]
OfStage = Annotated[str | None, typer.Option("--stage", metavar="NAME", help="Only those that this stage gave up.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether that is meant.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the server says it.")]


@app.command(short_help="Start everything here, run a sample job, serve until Ctrl-C.")
def up(
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The address that HTTP listens on.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, metavar="PORT", help="The port for HTTP.", show_default="the first free one from 8000"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A model's folder or hub name.", show_default="a small one that comes along"),
    ] = None,
    nats_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A nats-server to use.", show_default="one of its own, with its data"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where jobs and models are kept.", show_default=".headrace")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Run the sample job, then stop.")] = False,
    sample: Annotated[bool, typer.Option("--sample/--no-sample", help="Whether to run a sample job first.")] = True,
    pipeline: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE:NAME", help="A pipeline to serve, by import path; may be repeated."),
    ] = None,
) -> None:
    """Start everything on this machine, run a sample job, and serve until Ctrl-C.

    What was accepted earlier is still there and goes on. What dies is started again; Ctrl-C stops all of it.

    \b
    Examples:
      headrace up
      headrace up --once                          try it and stop
      headrace up --port 9000 --data /var/lib/headrace
      headrace up --pipeline shop.jobs:orders     serve a pipeline of your own
      headrace up --nats-url nats://10.0.0.5:4222
    """
    # Starting things needs Ray, which takes seconds to import; nothing else here does.
    from actors import launch

    for path in pipeline or ():
        if not re.fullmatch(r"[\w.]+:\w+", path):
            raise typer.BadParameter(f"{path!r} is not MODULE:NAME, such as shop.jobs:orders", param_hint="--pipeline")
    options = launch.LaunchOptions(
        host=host,
        port=port,
        model=model,
        nats_url=nats_url,
        data=data,
        once=once,
        sample=sample,
        pipelines=tuple(pipeline or ()),
    )
    raise typer.Exit(launch.up(options))


@app.command(short_help="Submit a job; watch it with --follow.")
def submit(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="The pipeline's name; `headrace pipelines` lists them.")
    ],
    input: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A JSON object, or text for the input's one text field; @FILE reads a file, - the standard input.",
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Watch the job: its text on stdout, its events on stderr.")
    ] = False,
    lane: Annotated[Lane | None, typer.Option(help="Who goes first where jobs wait.", show_default="standard")] = None,
    deadline: Annotated[
        int | None,
        typer.Option(min=1, metavar="SECONDS", help="How long it may take at most.", show_default="one day"),
    ] = None,
    start_after: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS|TIME", help="Not to begin before: 90, or 2026-11-25T08:00.", show_default="at once"
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Submitting again under the same key gives the same job.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A note to keep with the job; may be repeated.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where it is told what becomes of this job, an https URL.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit a job. Prints its id as soon as it is stored.

    \b
    Examples:
      headrace submit analysis "What is a headrace?"
      headrace submit analysis "What is a headrace?" --follow > answer.txt
      headrace submit analysis '{"text": "What is a headrace?"}' --lane interactive
      headrace submit analysis @question.txt --key order-17 --metadata team=blue
      headrace submit analysis "What is a headrace?" --start-after 2026-11-25T08:00
      echo "What is a headrace?" | headrace submit analysis -

    With --json and --follow, every line is an object: the job, then its events.
    """
    said = _read_input(input)
    notes = _notes(metadata or [])
    with Headrace(url, patience=ASKING) as headrace:
        message = _object(said) if said.lstrip().startswith("{") else _wrapped(said, headrace.pipelines(), pipeline)
        start = _start(start_after)
        job = headrace.submit(
            pipeline,
            message,
            key=key,
            lane=lane,
            deadline=deadline,
            start_after=start,
            metadata=notes,
            webhook=webhook,
        )
    if as_json:
        typer.echo(job.model_dump_json(by_alias=True))
    elif follow:
        typer.echo(f"job {job.id}", err=True)
    else:
        typer.echo(job.id)
        typer.echo(f"{job.status} in {job.pipeline}; watch it with: headrace follow {job.id}", err=True)
    if follow:
        _follow(url, job.id, after=0, as_json=as_json, narration=Narration(text=sys.stdout, notes=sys.stderr))


@app.command(short_help="Watch a job to its outcome.")
def follow(
    id: JobId,
    events: Annotated[bool, typer.Option("--events", help="Only the events, on stdout.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Only the text.")] = False,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Begin after event number N.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Watch a job from its beginning to its outcome: its text on stdout, its events on stderr.

    A connection that breaks is taken up where it was; nothing is shown twice. Ctrl-C leaves the job alone. The exit
    status is 0 for a job that completes and 1 for any other outcome.

    \b
    Examples:
      headrace follow ID
      headrace follow ID --text > answer.txt
      headrace follow ID --json | jq .kind
    """
    if events and text:
        raise typer.BadParameter("take --events, --text, or neither for both", param_hint="--events")
    with Headrace(url, patience=ASKING) as headrace:
        headrace.job(id)
    if events:
        narration = Narration(text=None, notes=sys.stdout)
    else:
        narration = Narration(text=sys.stdout, notes=None if text else sys.stderr)
    _follow(url, id, after=after, as_json=as_json, narration=narration)


@app.command(short_help="Show how a job stands, and why it waits.")
def show(id: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show how a job stands: where it is, why it waits, what it asks, what it answered or what went wrong.

    \b
    Examples:
      headrace show ID
      headrace show ID --json | jq .answer
    """
    with Headrace(url, patience=ASKING) as headrace:
        job = headrace.job(id)
        if as_json:
            typer.echo(job.model_dump_json(by_alias=True, indent=2))
            return
        waits = "" if job.ended or job.question else _asked_why(headrace, job)
    typer.echo(job_printout(job, waits=waits))


@app.command(short_help="Print everything that is stored of a job.")
def log(
    id: JobId,
    after: Annotated[int, typer.Option(min=0, metavar="N", help="Begin after that sequence number.")] = 0,
    url: Url = DEFAULT_URL,
) -> None:
    """Print everything that is stored of a job by now, one JSON object a line: inputs, token ids and digests included.

    \b
    Examples:
      headrace log ID > job.jsonl
      headrace log ID | jq -c '[.sequence, .event.kind, .event.by]'
    """
    with Headrace(url, patience=ASKING) as headrace:
        for entry in headrace.log(id, after=after):
            typer.echo(entry.model_dump_json())


@app.command(short_help="Stop a job.")
def cancel(
    id: JobId,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; it is kept with the job.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Stop a job: at once where nobody runs it, else as soon as its worker has aborted its inference.

    Doing it again is harmless. A job that has its outcome keeps it; when that is not `cancelled`, the exit status is 1.

    \b
    Examples:
      headrace cancel ID
      headrace cancel ID --reason "asked twice"
    """
    with Headrace(url, patience=ASKING) as headrace:
        job = headrace.cancel(id, reason=reason)
    if as_json:
        typer.echo(job.model_dump_json(by_alias=True, indent=2))
    elif not job.ended:
        typer.echo(f"job {job.id} is being stopped; see it end with: headrace follow {job.id}")
    else:
        typer.echo(f"job {job.id} is {job.status.replace('_', ' ')}")
    if job.ended and job.status != "cancelled":
        raise typer.Exit(1)


@app.command(short_help="Answer what a job asks.")
def answer(
    id: JobId,
    answer: Annotated[
        str,
        typer.Argument(
            metavar="ANSWER",
            help="Text where text is asked for, else JSON; @FILE reads a file, - the standard input.",
        ),
    ],
    question: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Which question is meant.", show_default="the one that is asked now"),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Answer what a job asks; it goes on then. `headrace show ID` has the question, and what is expected.

    Doing it again is harmless. What was settled otherwise meanwhile stays so, and the exit status is 1.

    \b
    Examples:
      headrace answer ID "Lower Mill"
      headrace answer ID true
      headrace answer ID '{"year": 1850}'
      headrace answer ID @letter.txt --question 7
    """
    said = _read_input(answer)
    with Headrace(url, patience=ASKING) as headrace:
        asked = headrace.job(id).question
        wants_text = asked is not None and asked.expects.get("type") == "string"
        job = headrace.answer(id, said if wants_text else _any_json(said), question=question)
    if as_json:
        typer.echo(job.model_dump_json(by_alias=True, indent=2))
    else:
        typer.echo(f"job {job.id} goes on; watch it with: headrace follow {job.id}")


@dead.command("list", short_help="List dead letters that nobody has reviewed.")
def list_dead(
    pipeline: OfPipeline = None,
    stage: OfStage = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that were redriven or discarded too.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List dead letters, the oldest first: those that nobody has redriven or discarded.

    \b
    Examples:
      headrace dead list
      headrace dead list --stage write --all
      headrace dead list --json | jq -r '.[].id'
    """
    with Headrace(url, patience=ASKING) as headrace:
        found = _letters(headrace, pipeline, stage, everything=everything)
    if as_json:
        typer.echo(_json_list(found))
    elif found:
        typer.echo(letters_printout(found))
    else:
        typer.echo("no dead letters wait for anybody", err=True)


@dead.command("show", short_help="Show a dead letter, whole.")
def show_dead(id: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show a dead letter: its input, its errors, what it had said, and what happened to its job.

    \b
    Examples:
      headrace dead show ID
      headrace dead show ID --json | jq .input
    """
    with Headrace(url, patience=ASKING) as headrace:
        letter = headrace.dead_letter(id)
    typer.echo(letter.model_dump_json(by_alias=True, indent=2) if as_json else letter_printout(letter))


@dead.command("redrive", short_help="Make new jobs of dead letters.")
def redrive_dead(
    ids: LetterIds = None,
    pipeline: OfPipeline = None,
    stage: OfStage = None,
    input: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="What the stage is given instead; @FILE reads a file, - the standard input."),
    ] = None,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a new job of each dead letter, from the stage that failed, so that finished work is not done again.

    Prints the new jobs' ids. Those that are chosen by --pipeline and --stage are the ones that nobody has reviewed.

    \b
    Examples:
      headrace dead redrive ID
      headrace dead redrive ID --input '{"text": "a better one"}'
      headrace dead redrive --stage write --yes
    """
    if input is not None and len(ids or ()) != 1:
        raise typer.BadParameter("give the one ID that it is for", param_hint="--input")
    message = None if input is None else _object(_read_input(input))
    with Headrace(url, patience=ASKING) as headrace:

        def redrive(id: str) -> None:
            job = headrace.redrive(id, input=message)
            typer.echo(job.id)
            typer.echo(f"{id} lives on as {job.id}; watch it with: headrace follow {job.id}", err=True)

        _each_letter(_chosen(headrace, ids, pipeline, stage, "redrive", yes=yes), redrive)


@dead.command("discard", short_help="Let dead letters be, for good.")
def discard_dead(
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with the job.")],
    ids: LetterIds = None,
    pipeline: OfPipeline = None,
    stage: OfStage = None,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Let dead letters be: they are kept, and are not to be redriven any more.

    \b
    Examples:
      headrace dead discard ID --reason "a test"
      headrace dead discard --pipeline analysis --reason "of last week's model" --yes
    """
    with Headrace(url, patience=ASKING) as headrace:

        def discard(id: str) -> None:
            headrace.discard(id, reason=reason)
            typer.echo(f"{id} is discarded")

        _each_letter(_chosen(headrace, ids, pipeline, stage, "discard", yes=yes), discard)


@app.command(short_help="List the stages: what waits, what runs, on what.")
def stages(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often to look.")] = 1.0,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List the stages: how much waits and runs, for how long, and on which replicas.

    \b
    Examples:
      headrace stages
      headrace stages --watch
      headrace stages --json | jq '.[] | {stage, waiting}'
    """
    with Headrace(url, patience=ASKING) as headrace:
        for again in _rounds(watch, every):
            if again:
                typer.echo("\x1b[H\x1b[J" if sys.stdout.isatty() else "")
            found = headrace.stages()
            typer.echo(_json_list(found) if as_json else stages_printout(found))


@app.command(short_help="List the pipelines: what they take and answer; draw them.")
def pipelines(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one.", show_default="all of them")
    ] = None,
    draw: Annotated[
        Literal["mermaid", "svg"] | None, typer.Option(help="Draw it: which type goes from which stage to which.")
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="One that is not served, by import path; with --draw."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List the pipelines: what they take, their stages, and what they answer. Or draw them.

    \b
    Examples:
      headrace pipelines
      headrace pipelines --json | jq '.[0].input'
      headrace pipelines analysis --draw svg > analysis.svg
      headrace pipelines --pipeline shop.jobs:orders --draw mermaid
    """
    if pipeline and not (draw and name is None):
        raise typer.BadParameter("it is drawn by itself: add --draw, and no NAME", param_hint="--pipeline")
    if pipeline and draw:
        typer.echo(_drawn(draw, _ways(pipeline)))
        return
    with Headrace(url, patience=ASKING) as headrace:
        found = _those(headrace.pipelines(), name)
    if draw:
        if len(found) != 1 and draw == "svg":
            raise typer.BadParameter(
                f"name one of {', '.join(p.name for p in found)}: a picture shows one", param_hint="NAME"
            )
        ways = [[(r.giver, r.message, r.taker) for r in p.routes] for p in found]
        typer.echo("\n\n".join(_drawn(draw, each) for each in ways))
    else:
        typer.echo(_json_list(found) if as_json else pipelines_printout(found))


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 for success, 1 for an error, which is one sentence, 2 for a wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app(args, prog_name="headrace")
    except HeadraceError as error:
        typer.echo(f"headrace: {visible(' '.join(str(error).split()))}", err=True)
        sys.exit(2 if isinstance(error, BadRequest) else 1)
    sys.exit(0)


def _follow(url: str, id: str, *, after: int, as_json: bool, narration: Narration) -> None:
    """Tell a job to its outcome; exits with 1 when that is not an answer."""
    try:
        outcome = asyncio.run(_told(url, id, after, None if as_json else narration))
    except KeyboardInterrupt:
        typer.echo(f"\nThe job goes on; watch it with: headrace follow {id}", err=True)
        raise typer.Exit(130) from None
    if outcome is not None and not isinstance(outcome, Completed):
        raise HeadraceError(f"job {id} has no answer: {ending(outcome)}")


async def _told(url: str, id: str, after: int, narration: Narration | None) -> Outcome | None:
    async with (
        AsyncHeadrace(url, patience=READING) as headrace,
        aclosing(headrace.events(id, after=after)) as events,
    ):
        if narration:
            return await narration.tell(events)
        last: Event | None = None
        async for last in events:
            typer.echo(last.model_dump_json(by_alias=True, exclude_none=True))
        return last if isinstance(last, Outcome) else None


def _rounds(watch: bool, every: float) -> Iterator[bool]:
    """False for the first look, then True before each further one."""
    yield False
    while watch:
        time.sleep(every)
        yield True


def _read_input(given: str) -> str:
    """What INPUT stands for: itself, the standard input, or a file."""
    try:
        if given == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
        if given.startswith("@"):
            return Path(given[1:]).read_bytes().decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise typer.BadParameter(
            f"cannot read {given[1:]!r}: {error.strerror}; text that begins with @ goes through -", param_hint="INPUT"
        ) from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"this is not UTF-8 text: {error}", param_hint="INPUT") from error
    return given


def _object(text: str) -> dict[str, Any]:
    """The JSON object in `text`, which begins with a brace."""
    try:
        parsed: dict[str, Any] = json.loads(text, parse_constant=_no_constant)
        return parsed
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            f"it begins with {{ and is not JSON: {error}; text that begins so goes in as JSON too", param_hint="INPUT"
        ) from error


def _any_json(text: str) -> object:
    """What `text` says as JSON; itself where it is none, as a word is."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _wrapped(text: str, known: Sequence[PipelineReport], name: str) -> dict[str, str]:
    """The text as the one text field of the pipeline's input."""
    pipeline = next((pipeline for pipeline in known if pipeline.name == name), None)
    if pipeline is None:
        names = ", ".join(pipeline.name for pipeline in known) or "none"
        raise HeadraceError(f"there is no pipeline {name!r}; there are: {names}")
    if pipeline.text_field is None:
        raise typer.BadParameter(
            f"{name} does not take mere text; give it JSON with {fields(pipeline.input)}", param_hint="INPUT"
        )
    return {pipeline.text_field: text}


def _notes(pairs: Sequence[str]) -> dict[str, str]:
    if wrong := next((pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair), None):
        raise typer.BadParameter(f"{wrong!r} is not NAME=VALUE, such as team=blue", param_hint="--metadata")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _start(given: str | None) -> int | datetime | None:
    """Seconds, or a time; one without a timezone is a time here."""
    if given is None or given.isdecimal():
        return None if given is None else int(given)
    try:
        return datetime.fromisoformat(given).astimezone()
    except ValueError:
        raise typer.BadParameter(
            f"{given!r} is neither seconds nor a time such as 2026-11-25T08:00", param_hint="--start-after"
        ) from None


def _those(found: Sequence[PipelineReport], name: str | None) -> Sequence[PipelineReport]:
    chosen = [pipeline for pipeline in found if name in (None, pipeline.name)]
    if not chosen:
        names = ", ".join(pipeline.name for pipeline in found) or "none"
        raise HeadraceError(f"there is no pipeline {name!r}; there are: {names}")
    return chosen


def _ways(path: str) -> Sequence[Way]:
    """The ways of a pipeline that is only imported."""
    from actors.runtime.replica import load_pipelines

    sys.path.insert(0, os.getcwd())  # a pipeline of one's own is found where one stands
    (pipeline,) = load_pipelines([path]).values()
    return pipeline.routes


def _drawn(how: Literal["mermaid", "svg"], ways: Sequence[Way]) -> str:
    return mermaid(ways) if how == "mermaid" else svg(ways)


def _asked_why(headrace: Headrace, job: Job) -> str:
    with contextlib.suppress(ClientError):
        return why_it_waits(job, headrace.stages())
    return ""


def _letters(
    headrace: Headrace, pipeline: str | None, stage: str | None, *, everything: bool = False
) -> list[DeadLetterSummary]:
    found = headrace.dead_letters(pipeline=pipeline, stage=stage)
    return [letter for letter in found if everything or letter.review == "open"]


def _chosen(
    headrace: Headrace, ids: Sequence[str] | None, pipeline: str | None, stage: str | None, verb: str, *, yes: bool
) -> list[str]:
    """The dead letters that are named, or those that a filter fits and nobody has reviewed, once that is confirmed."""
    by_filter = bool(pipeline or stage)
    if bool(ids) is by_filter:
        raise typer.BadParameter("give ids, or --pipeline or --stage to choose by", param_hint="ID")
    if ids:
        return list(dict.fromkeys(ids))
    found = _letters(headrace, pipeline, stage)
    if found and not yes:
        typer.echo(letters_printout(found), err=True)
        typer.confirm(f"{verb} {len(found)} dead letters?", abort=True, err=True)
    return [letter.id for letter in found]


def _each_letter(ids: Sequence[str], review: Callable[[str], None]) -> None:
    """Do it to all of them; what is refused for one does not stop the others, and makes the exit status 1."""
    refused = 0
    for id in ids:
        try:
            review(id)
        except Refused as error:
            refused += 1
            typer.echo(f"headrace: {id}: {visible(' '.join(str(error).split()))}", err=True)
    if not ids:
        typer.echo("no dead letters fit", err=True)
    if refused:
        raise typer.Exit(1)


def _json_list(replies: Sequence[Reply]) -> str:
    return json.dumps([reply.model_dump(mode="json", by_alias=True) for reply in replies], indent=2)
