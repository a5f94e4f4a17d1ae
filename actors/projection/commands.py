"""The commands about the list of jobs, `headrace jobs …`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from actors.client import DEFAULT_URL, Headrace, Patience
from actors.options import DEFAULT_DATA, Data, span
from actors.printout import jobs_printout

ASKING = Patience(tries=4)

jobs = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""List jobs, and make the list again.

    The list is a table beside the log, made from it alone. Nothing is decided by it, and nothing is lost with it.

    \b
    First steps:
      headrace jobs list
      headrace jobs list --status running,input_required
    """,
)


@jobs.command("list", short_help="List jobs, the newest first.")
def list_jobs(
    status: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only with this status; several separated by commas.")
    ] = None,
    pipeline: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this pipeline.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only made since then: 30m, 12h, 7d ago, or a time.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as the server says it.")] = False,
    url: Annotated[str, typer.Option("--url", metavar="URL", envvar="HEADRACE_URL", help="The server.")] = DEFAULT_URL,
) -> None:
    """List jobs, the newest first.

    \b
    Examples:
      headrace jobs list
      headrace jobs list --status failed,dead_lettered --since 12h
      headrace jobs list --json | jq -r '.[].id'
    """
    begin = _since(since, datetime.now(UTC)) if since else None
    with Headrace(url, patience=ASKING) as headrace:
        found = list(islice(headrace.jobs(status=status, pipeline=pipeline, since=begin), limit))
    if as_json:
        typer.echo(json.dumps([job.model_dump(mode="json", by_alias=True) for job in found], indent=2))
    elif found:
        typer.echo(jobs_printout(found))
    else:
        typer.echo("no jobs fit", err=True)


@jobs.command("rebuild", short_help="Make the list again, from the log.")
def rebuild(
    data: Data = DEFAULT_DATA,
) -> None:
    """Make the list again from the log: an installation that runs on this folder does it within seconds, else the next.

    It is never needed: a list that is missing, damaged or another log's is made again by itself.

    \b
    Examples:
      headrace jobs rebuild
      headrace jobs rebuild --data /var/lib/headrace
    """
    from actors.projection.table import Table

    if not data.is_dir():  # a mistyped name is to leave nothing behind
        raise typer.BadParameter(f"there is no folder {data}", param_hint="--data")
    Table(data).begin_anew()
    typer.echo("the list begins anew; the installation on this folder fills it, when it runs", err=True)


def _since(said: str, now: datetime) -> datetime:
    if ago := span(said):
        return now - ago
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        raise typer.BadParameter(
            f"{said!r} is neither like 30m, 12h or 7d nor a time like 2026-11-23T09:00", param_hint="--since"
        ) from None
    return at if at.tzinfo else at.astimezone()
