"""The commands about the audit log, `headrace audit …`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, TypeVar

import typer

from actors.audit.finding import Finding
from actors.contracts.errors import HeadraceError
from actors.options import DEFAULT_DATA, Data, NatsUrl

if TYPE_CHECKING:  # what reads the log takes long to import, and most commands need none of it
    from actors.journal.read import Reader
    from actors.journal.trail import Trail

T = TypeVar("T")

SHOWN = 200
"""The most findings that are printed for people; `--json` prints all."""

audit = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Check the log of everything that happened, export it, and rebuild the jobs' states from it.

    Facts are kept for 400 days, whatever is forgotten or deleted elsewhere. These commands read the server itself: the
    one of `headrace up` in the data folder, whether or not it runs, or the one that --nats-url names.

    \b
    First steps:
      headrace audit verify
      headrace audit export --output facts.jsonl
      headrace audit replay
    """,
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--checkpoints",
        metavar="FOLDER",
        envvar="HEADRACE_CHECKPOINTS",
        help="Where checkpoints are.",
        show_default="audit, in the data folder",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print findings as lines of JSON.")]


@audit.command("verify", short_help="Check that nothing was altered, lost or moved.")
def verify(
    data: Data = DEFAULT_DATA,
    nats_url: NatsUrl = "",
    checkpoints: Folder = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The public key of the checkpoints.", show_default="checkpoints.pub, beside them"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every fact of every job: altered, missing, reordered and truncated entries are found, and the jobs named.

    The exit status is 0 when all is well and 1 when something was found. Each job's facts form a chain, which shows
    what changed within a job. Checkpoints show what a chain cannot: that whole jobs or the end of the log are gone, or
    that a chain was forged. Who can write the data folder can forge those too, so keep copies of the checkpoints and
    of their public key elsewhere.

    \b
    Examples:
      headrace audit verify
      headrace audit verify --checkpoints /mnt/vault/audit --key auditor.pub
      headrace audit verify --json | jq -r .job | sort -u
    """
    from actors.audit.checkpoint import CHECKPOINTS, PUBLIC_KEY, Seal
    from actors.audit.verify import Checkpoints, jobs_of
    from actors.audit.verify import verify as verified

    folder = checkpoints or data / "audit"
    path, signed = folder / CHECKPOINTS, None
    if path.exists() or checkpoints or key:
        signed = Checkpoints(path, Seal(key or folder / PUBLIC_KEY))
    else:
        typer.echo("there are no checkpoints: a job that is gone as a whole cannot be noticed", err=True)
    progress = _Progress()
    verdict = _read(
        data, nats_url, lambda log: verified(log.trail, log.reader, signed, now=datetime.now(UTC), progress=progress)
    )
    progress.end()
    _tell(verdict.findings, as_json=as_json)
    span = verdict.span
    typer.echo(
        f"read {verdict.entries:,} entries of {verdict.jobs:,} jobs ({verdict.running:,} without an outcome yet); "
        f"{verdict.checkpoints:,} checkpoints cover {verdict.sealed:,} of them",
        err=True,
    )
    if span.lag:
        typer.echo(f"{span.lag:,} facts are still to come from the log of jobs", err=True)
    if span.is_full or span.trouble:
        why = span.trouble or f"{span.bytes:,} of {span.max_bytes:,} bytes"
        typer.echo(f"it is full, or nearly ({why}), and takes nothing more then: HEADRACE_AUDIT_MAX_BYTES", err=True)
    if not verdict.is_whole:
        found, jobs = len(verdict.findings), len(jobs_of(verdict.findings))
        raise HeadraceError(f"the audit log is not whole: {found:,} findings, about {jobs:,} jobs")
    typer.echo("all of it is there, unaltered and in order", err=True)


@audit.command("export", short_help="Write the facts as CloudEvents, one per line.")
def export(
    data: Data = DEFAULT_DATA,
    nats_url: NatsUrl = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to.", show_default="stdout")
    ] = None,
    after: Annotated[int, typer.Option(min=0, metavar="POSITION", help="Only what follows this position.")] = 0,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only the facts of this job.")] = None,
) -> None:
    """Write the facts as CloudEvents 1.0 in JSON, one per line, in the order of the log.

    Each has its `position`, after which a later export goes on, and the `sha256` of its stored bytes, which is the
    `prev` of the job's next fact. The exit status is 1 when entries cannot be read.

    \b
    Examples:
      headrace audit export --output facts.jsonl
      headrace audit export --after 120000 >> facts.jsonl
      headrace audit export --job ID | jq .type
    """
    progress = _Progress()
    try:
        with output.open("w", encoding="utf-8") if output else _Stdout() as file:
            gone = _read(data, nats_url, lambda log: _export(log, file, after, job, progress))
    except OSError as error:
        raise HeadraceError(f"cannot write {output or 'the export'}: {error.strerror}") from error
    progress.end()
    if gone:
        raise HeadraceError(f"{gone:,} entries cannot be read; see which with: headrace audit verify")


@audit.command("replay", short_help="Rebuild every job's state, and compare it with the live one.")
def replay(data: Data = DEFAULT_DATA, nats_url: NatsUrl = "", as_json: AsJson = False) -> None:
    """Rebuild every job's state from the audit log alone, and compare it with the live one where there is one.

    The exit status is 1 when they differ. Text is not audited; where all of a step's text is still there, it is checked
    against the digest that the facts carry.

    \b
    Examples:
      headrace audit replay
      headrace audit replay --json
    """
    from actors.audit.replay import replay as replayed

    progress = _Progress()
    done = _read(data, nats_url, lambda log: replayed(log.trail, log.reader, now=datetime.now(UTC), progress=progress))
    progress.end()
    _tell(done.findings, as_json=as_json)
    for status, jobs in sorted(done.by_status.items()):
        typer.echo(f"{status.replace('_', ' '):<14}{jobs:>10,}", err=as_json)
    typer.echo(
        f"rebuilt {done.by_status.total():,} jobs; {done.forgotten:,} of them are in the audit log alone", err=True
    )
    if done.findings:
        raise HeadraceError(f"{len(done.findings):,} findings: the live log is not what the audit log says")
    typer.echo("every live job is as the audit log says", err=True)


@audit.command("checkpoint", short_help="Sign what the log has gained, now.")
def checkpoint(data: Data = DEFAULT_DATA, nats_url: NatsUrl = "", checkpoints: Folder = None) -> None:
    """Sign a checkpoint of what the audit log has gained since the last one. A running installation does it by itself.

    The key is made at the first time. Keep copies of the file and of the public key where nobody who can write here
    can reach them.

    \b
    Examples:
      headrace audit checkpoint
      headrace audit checkpoint --checkpoints /mnt/vault/audit
    """
    from actors.audit.notary import Notary

    notary = Notary(folder := checkpoints or data / "audit")

    async def sign(log: _Log) -> int:
        return await notary.round(log.trail, await log.trail.span())

    made = _read(data, nats_url, sign)
    typer.echo(f"signed {made:,} checkpoints in {folder}" if made else "there is nothing new to sign", err=True)


class _Progress:
    """A line that counts, on a terminal."""

    def __init__(self) -> None:
        self._is_seen = sys.stderr.isatty()

    def __call__(self, done: int) -> None:
        if self._is_seen:
            sys.stderr.write(f"\r{done:,} entries")
            sys.stderr.flush()

    def end(self) -> None:
        if self._is_seen:
            sys.stderr.write("\r\x1b[K")


class _Stdout:
    """The standard output, which nobody closes here."""

    def __enter__(self) -> IO[str]:
        return sys.stdout

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class _Log:
    """What an audit reads."""

    trail: Trail
    reader: Reader


def _tell(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        for finding in findings:
            typer.echo(json.dumps(finding.as_json()))
        return
    for finding in findings[:SHOWN]:
        typer.echo(str(finding))
    if len(findings) > SHOWN:
        typer.echo(f"and {len(findings) - SHOWN:,} more; --json prints all", err=True)


async def _export(log: _Log, file: IO[str], after: int, job: str | None, progress: _Progress) -> int:
    """Write it; how many entries could not be."""
    from actors.audit.export import cloud_event
    from actors.contracts.events import NotAnEvent
    from actors.journal.trail import Hole

    span, gone = await log.trail.span(), 0
    async for found in log.trail.read(max(after, span.first - 1), span.last):
        if isinstance(found, Hole):
            gone += found.last - found.first + 1
        elif not job or found.job == job:
            try:
                print(cloud_event(found), file=file)
            except NotAnEvent:
                gone += 1
            if found.seq % 1_000 == 0:
                progress(found.seq)
    return gone


def _read(data: Path, nats_url: str, work: Callable[[_Log], Awaitable[T]]) -> T:
    async def run() -> T:
        async with _opened(data, nats_url) as log:
            return await work(log)

    return asyncio.run(run())


@asynccontextmanager
async def _opened(data: Path, nats_url: str) -> AsyncIterator[_Log]:
    """The log on the server that is named, or on the one in the data folder, which is started if it does not run."""
    from actors.journal.reached import reached
    from actors.journal.read import Reader
    from actors.journal.trail import Trail

    async with reached(data, nats_url, "headrace-audit") as link:
        yield _Log(Trail(link), Reader(link))
