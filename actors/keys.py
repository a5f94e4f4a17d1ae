"""The commands about keys, `headrace keys …`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from actors.contracts.api_key import PREFIX, ApiKey, id_of
from actors.contracts.errors import HeadraceError
from actors.contracts.subjects import LOCAL
from actors.contracts.tenant import token_of
from actors.options import DEFAULT_DATA, Data, NatsUrl, span

if TYPE_CHECKING:  # what reaches the server takes long to import
    from actors.journal.api_keys import ApiKeys

T = TypeVar("T")

keys = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Make the keys that open the HTTP API, list them and revoke them.

    Without any key, an installation on the loopback address is open to everybody on this machine, and one on another
    address does not start. From the first key on, every request needs one. Whose job it is, and who may see it, is said
    by the key alone. These commands need no key: they write to the server of `headrace up` in the data folder, whether
    or not it runs, or to the one that --nats-url names.

    \b
    First steps:
      headrace keys create --tenant acme
      export HEADRACE_API_KEY=hrk_...
      headrace keys list
      headrace keys revoke ID
    """,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@keys.command("create", short_help="Make a key, and show it this once.")
def create(
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="Whose jobs it makes and sees.", show_default="local, for operators")
    ] = "",
    operator: Annotated[bool, typer.Option("--operator", help="It sees everybody's jobs, and the stages.")] = False,
    name: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long it is good: 90d, 12h, 30m.", show_default="for ever")
    ] = None,
    as_json: AsJson = False,
    data: Data = DEFAULT_DATA,
    nats_url: NatsUrl = "",
) -> None:
    """Make a key. It is printed on stdout and kept nowhere: only its digest is.

    An operator's key makes jobs for its tenant, which is `local` if none is named, and sees everybody's.

    \b
    Examples:
      headrace keys create --tenant acme --name "nightly reports" --expires 90d
      headrace keys create --operator
      HEADRACE_API_KEY=$(headrace keys create --tenant acme) headrace submit analysis "What is a headrace?"
    """
    if not tenant and not operator:
        raise typer.BadParameter("say whose key it is, or --operator", param_hint="--tenant")
    tenant = tenant or LOCAL
    try:
        token_of(tenant)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--tenant") from None
    now = datetime.now(UTC)
    until = now + _duration(expires) if expires else None
    new = _with_keys(
        data,
        nats_url,
        lambda all: all.make(tenant, now=now, name=name[:200], is_operator=operator, expires=until),
        make=True,
    )
    if as_json:
        typer.echo(json.dumps({"id": new.id, "key": new.text, "tenant": tenant, "operator": operator}))
        return
    typer.echo(new.text)
    whose = f"an operator's, of tenant {tenant}" if operator else f"of tenant {tenant}"
    typer.echo(f"key {new.id}, {whose}; it is not shown again. From now on every request needs a key.", err=True)


@keys.command("list", short_help="List the keys that were made.")
def list_keys(as_json: AsJson = False, data: Data = DEFAULT_DATA, nats_url: NatsUrl = "") -> None:
    """List every key that was made, the newest last; the keys themselves are kept nowhere.

    \b
    Examples:
      headrace keys list
      headrace keys list --json | jq -r '.[] | select(.state == "good").id'
    """

    async def read(all: ApiKeys) -> tuple[dict[str, ApiKey], dict[str, str]]:
        return await all.all(), await all.tenants()

    found, names = _with_keys(data, nats_url, read)
    now = datetime.now(UTC)
    told = [
        {
            "id": id,
            "tenant": names.get(key.tenant, key.tenant),
            "operator": key.is_operator,
            "name": key.name,
            "created": _date(key.created),
            "expires": _date(key.expires),
            "state": _state(key, now),
        }
        for id, key in sorted(found.items(), key=lambda item: item[1].created)
    ]
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    for key in [] if as_json else told:
        role = "operator" if key["operator"] else ""
        typer.echo(
            f"{key['id']}  {key['state']:<8}  {key['tenant']:<16}  {role:<8}  {key['created']}  "
            f"{key['expires'] or 'for ever':<20}  {key['name']}".rstrip()
        )
    if not told:
        typer.echo("there are no keys: whoever is on this machine may do everything", err=True)


@keys.command("revoke", short_help="Let a key open nothing any more.")
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, or the key.")],
    data: Data = DEFAULT_DATA,
    nats_url: NatsUrl = "",
) -> None:
    """Let a key open nothing any more. Streams that were opened with it end within seconds; its jobs go on.

    With the last key gone nobody can ask anything: an installation that had keys does not open up again.

    \b
    Examples:
      headrace keys revoke 7h3kq2nabc
    """
    name = id_of(id) or id.removeprefix(PREFIX).partition("_")[0]
    if not re.fullmatch(r"[a-z2-7]{10}", name):
        raise typer.BadParameter(f"{id[:20]!r} is no key's id; see `headrace keys list`", param_hint="ID")
    now = datetime.now(UTC)
    if _with_keys(data, nats_url, lambda all: all.revoke(name, now=now)) is None:
        raise HeadraceError(f"there is no key {name}; see `headrace keys list`")
    typer.echo(f"key {name} is revoked", err=True)


def _with_keys(data: Path, nats_url: str, work: Callable[[ApiKeys], Awaitable[T]], *, make: bool = False) -> T:
    from actors.journal.api_keys import ApiKeys
    from actors.journal.reached import reached
    from actors.journal.topology import ensure_settings
    from actors.runtime.settings import Settings

    async def run() -> T:
        async with reached(data, nats_url, "headrace-keys", make=make) as link:
            await ensure_settings(link, replicas=Settings().nats_replicas)
            return await work(ApiKeys(link))

    return asyncio.run(run())


def _duration(typed: str) -> timedelta:
    if (found := span(typed)) is None:
        raise typer.BadParameter(f"{typed!r} is no time such as 90d, 12h or 30m", param_hint="--expires")
    return found


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked:
        return "revoked"
    return "good" if key.is_good(now) else "expired"


def _date(at: datetime | None) -> str | None:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None
