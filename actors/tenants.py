"""The commands about tenants, `headrace tenants …`: what each may have, and how much it weighs among the others."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from actors.contracts.errors import HeadraceError
from actors.contracts.limits import LIMITS, Limits
from actors.contracts.tenant import Tenant, token_of
from actors.options import DEFAULT_DATA, Data, NatsUrl

TRIES = 10

tenants = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""See and set what each tenant may have.

    Where jobs of several tenants wait, they are started in proportion to their weights. Who has all that its limits
    allow is answered 429 until there is more. What is set here is known everywhere within seconds.

    \b
    First steps:
      headrace tenants list
      headrace tenants set acme --weight 3
      headrace tenants set acme --jobs-per-minute 600 --running 100
    """,
)


@tenants.command("list", short_help="List tenants, and what each may have.")
def list_tenants(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    nats_url: NatsUrl = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """List the tenants that have submitted a job or have a limit, and what each may have.

    \b
    Examples:
      headrace tenants list
      headrace tenants list --json | jq .acme
    """
    found = asyncio.run(_all(data, nats_url))
    if as_json:
        every = {name: limits.model_dump(exclude_none=True) for name, limits in found.items()}
        typer.echo(json.dumps(every, indent=2))
    elif found:
        typer.echo(_table(found))
    else:
        typer.echo("there is nobody but the local tenant, and no limit", err=True)


@tenants.command("set", short_help="Set what a tenant may have.")
def set_tenant(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant; `local` where there are no keys.")],
    weight: Annotated[
        float | None, typer.Option(metavar="N", help="How many of its jobs are started for one of who weighs 1.")
    ] = None,
    jobs_per_minute: Annotated[int | None, typer.Option(metavar="N", help="Jobs in a minute; 0: no limit.")] = None,
    waiting: Annotated[int | None, typer.Option(metavar="N", help="Jobs that wait for a stage; 0: no limit.")] = None,
    running: Annotated[int | None, typer.Option(metavar="N", help="Jobs without an outcome; 0: no limit.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens used by what ended in a minute; 0: no limit.")
    ] = None,
    readers: Annotated[int | None, typer.Option(metavar="N", help="Streams open in one process; 0: no limit.")] = None,
    share: Annotated[
        int | None, typer.Option(metavar="N", help="The share of the lanes that its new jobs go to, from 1.")
    ] = None,
    nats_url: NatsUrl = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Set what a tenant may have. What is not named stays as it is.

    \b
    Examples:
      headrace tenants set acme --weight 3
      headrace tenants set acme --jobs-per-minute 600 --waiting 1000 --running 100
      headrace tenants set acme --tokens-per-minute 0
    """
    try:
        token_of(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    limits = {
        "jobs_per_minute": jobs_per_minute,
        "waiting": waiting,
        "running": running,
        "tokens_per_minute": tokens_per_minute,
        "readers": readers,
    }
    wanted = {
        **({"weight": weight} if weight is not None else {}),
        **({"share": share} if share is not None else {}),
        **{field: most or None for field, most in limits.items() if most is not None},
    }
    if not wanted:
        raise typer.BadParameter("say what it may have, as --weight 3", param_hint="--weight, --running, …")
    typer.echo(_table({name: asyncio.run(_set(data, nats_url, name, wanted))}))


async def _all(data: Path, nats_url: str) -> dict[str, Limits]:
    from actors.journal.reached import reached
    from actors.journal.shelf import TENANTS, Shelf
    from actors.journal.topology import ensure_settings
    from actors.runtime.settings import Settings

    async with reached(data, nats_url, "headrace-tenants") as link:
        await ensure_settings(link, replicas=Settings().nats_replicas)
        entries = await Shelf(link, LIMITS, Limits).all()
        names = {entry.name: entry.value.name for entry in await Shelf(link, TENANTS, Tenant).all() if entry.value}
    return dict(sorted((names.get(entry.name, entry.name), entry.value) for entry in entries if entry.value))


async def _set(data: Path, nats_url: str, name: str, wanted: Mapping[str, float | int | None]) -> Limits:
    """Raises HeadraceError for what means nothing, or when others set it again and again."""
    from actors.journal.reached import reached
    from actors.journal.shelf import TENANTS, Outdated, Shelf
    from actors.journal.topology import ensure_settings
    from actors.runtime.settings import Settings

    async with reached(data, nats_url, "headrace-tenants") as link:
        await ensure_settings(link, replicas=Settings().nats_replicas)
        token, shelf, names = token_of(name), Shelf(link, LIMITS, Limits), Shelf(link, TENANTS, Tenant)
        if (known := await names.get(token)).value is None:
            with contextlib.suppress(Outdated):
                await names.put(token, Tenant(name=name), expect=known.seq)
        for _ in range(TRIES):
            entry = await shelf.get(token)
            try:
                limits = Limits.model_validate({**(entry.value or Limits()).model_dump(), **wanted})
                await shelf.put(token, limits, expect=entry.seq)
                return limits
            except Outdated:
                continue
            except ValidationError as error:
                faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
                raise HeadraceError(f"that is no limit: {faults}") from None
    raise HeadraceError(f"{name!r} was set by others each time; try it again")


def _table(found: Mapping[str, Limits]) -> str:
    head = ("TENANT", "WEIGHT", "SHARE", "JOBS/MIN", "WAITING", "RUNNING", "TOKENS/MIN", "READERS")
    rows = [head, *(_row(name, limits) for name, limits in found.items())]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(name: str, limits: Limits) -> tuple[str, ...]:
    jobs = (limits.jobs_per_minute, limits.waiting, limits.running, limits.tokens_per_minute)
    numbers = (limits.share, *jobs, limits.readers)
    return (name, f"{limits.weight:g}", *("-" if number is None else f"{number:,}" for number in numbers))
