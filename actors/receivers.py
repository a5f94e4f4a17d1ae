"""The commands about webhooks, `headrace webhooks …`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from typing import Annotated

import typer

from actors.client import DEFAULT_URL, Headrace, Patience
from actors.printout import deliveries_printout, webhooks_printout
from actors.replies import Reply, WebhookSecret

ASKING = Patience(tries=4)

JOBS = "jobs"

webhooks = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Say where it is told what becomes of jobs, see what was delivered, and send it again.

    What is sent is signed by Standard Webhooks, with the secret that is printed when a webhook is made. It is sent
    again for three days until it is taken, always under the same webhook-id.

    \b
    First steps:
      headrace webhooks create https://example.com/hook
      headrace webhooks test ID
      headrace webhooks deliveries ID --status failed
      headrace webhooks replay ID DELIVERY
    """,
)

Url = Annotated[str, typer.Option("--url", metavar="URL", envvar="HEADRACE_URL", help="The server.")]
WebhookId = Annotated[str, typer.Argument(metavar="ID", help="The webhook's id, as `headrace webhooks list` has it.")]
OrJobs = Annotated[
    str, typer.Argument(metavar="ID", help="The webhook's id, or `jobs` for those that jobs have named themselves.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the server says it.")]


@webhooks.command("list", short_help="List webhooks.")
def list_webhooks(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List the webhooks that there are, the oldest first, without their secrets.

    \b
    Examples:
      headrace webhooks list
      headrace webhooks list --json | jq -r '.[] | select(.disabled).id'
    """
    with Headrace(url, patience=ASKING) as headrace:
        found = headrace.webhooks()
    if as_json:
        typer.echo(_json(found))
    elif found:
        typer.echo(webhooks_printout(found))
    else:
        typer.echo("there are no webhooks", err=True)


@webhooks.command("create", short_help="Be told at a URL, and print the secret this once.")
def create(
    to: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where it is POSTed to, an https URL.")],
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only these events; job.* and response.* stand for all of a kind."),
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Whatever tells it from others.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Be told at an address of what becomes of jobs from now on. The secret is printed on stdout, this once.

    \b
    Examples:
      headrace webhooks create https://example.com/hook
      headrace webhooks create https://example.com/hook --event job.completed --event job.dead_lettered
      SECRET=$(headrace webhooks create https://example.com/hook)
    """
    with Headrace(url, patience=ASKING) as headrace:
        made = headrace.create_webhook(to, events=event or None, description=description)
    if as_json:
        typer.echo(made.model_dump_json(by_alias=True, indent=2))
        return
    typer.echo(made.secret)
    typer.echo(f"webhook {made.id}; its secret is not shown again. Try it: headrace webhooks test {made.id}", err=True)


@webhooks.command("delete", short_help="Take webhooks away.")
def delete(ids: Annotated[list[str], typer.Argument(metavar="ID...")], url: Url = DEFAULT_URL) -> None:
    """Take webhooks away. What is on its way to them ends.

    \b
    Examples:
      headrace webhooks delete ID
    """
    with Headrace(url, patience=ASKING) as headrace:
        for id in ids:
            headrace.delete_webhook(id)
            typer.echo(f"{id} is deleted", err=True)


@webhooks.command("enable", short_help="Let a webhook be told again.")
def enable(id: WebhookId, url: Url = DEFAULT_URL) -> None:
    """Let a webhook be told again, of what happens from now on.

    \b
    Examples:
      headrace webhooks enable ID
    """
    with Headrace(url, patience=ASKING) as headrace:
        headrace.change_webhook(id, disabled=False)
    typer.echo(f"{id} is enabled", err=True)


@webhooks.command("test", short_help="Send webhook.test to a webhook.")
def try_out(id: WebhookId, url: Url = DEFAULT_URL) -> None:
    """Send `webhook.test` to a webhook, and print the delivery's id.

    \b
    Examples:
      headrace webhooks test ID && headrace webhooks deliveries ID
    """
    with Headrace(url, patience=ASKING) as headrace:
        typer.echo(headrace.test_webhook(id).id)


@webhooks.command("deliveries", short_help="List what was sent to a webhook, and what came of it.")
def deliveries(
    id: OrJobs,
    status: Annotated[str | None, typer.Option(metavar="NAME", help="Only pending, delivered or failed ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List what was sent to a webhook, those first that changed longest ago. They are kept for a month.

    \b
    Examples:
      headrace webhooks deliveries ID --status failed
      headrace webhooks deliveries jobs
      headrace webhooks deliveries ID --json | jq '.[0].attempts'
    """
    with Headrace(url, patience=ASKING) as headrace:
        found = list(islice(headrace.deliveries(id, status=status), limit))
    if as_json:
        typer.echo(_json(found))
    elif found:
        typer.echo(deliveries_printout(found))
    else:
        typer.echo("no deliveries fit", err=True)


@webhooks.command("replay", short_help="Send deliveries again.")
def replay(
    id: OrJobs,
    chosen: Annotated[list[str], typer.Argument(metavar="DELIVERY...", help="The deliveries' ids.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Send deliveries again, from the first attempt on, each under its own id.

    \b
    Examples:
      headrace webhooks replay ID DELIVERY
      headrace webhooks replay ID $(headrace webhooks deliveries ID --status failed --json | jq -r '.[].id')
    """
    with Headrace(url, patience=ASKING) as headrace:
        for delivery in chosen:
            headrace.replay(id, delivery)
            typer.echo(f"{delivery} is sent again", err=True)


@webhooks.command("rotate", short_help="Sign with a new secret.")
def rotate(id: OrJobs, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Sign with a new secret, which is printed on stdout, and for a day with the old one too.

    \b
    Examples:
      SECRET=$(headrace webhooks rotate ID)
      headrace webhooks rotate jobs
    """
    with Headrace(url, patience=ASKING) as headrace:
        made = headrace.webhook_secret(rotate=True) if id == JOBS else headrace.rotate_webhook(id)
    _tell(made, as_json=as_json)


@webhooks.command("secret", short_help="Show what signs for webhooks that jobs have named.")
def secret(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show the secret that signs for webhooks that jobs have named themselves. It is made when it is first asked for.

    \b
    Examples:
      headrace webhooks secret
    """
    with Headrace(url, patience=ASKING) as headrace:
        _tell(headrace.webhook_secret(), as_json=as_json)


def _tell(made: WebhookSecret, *, as_json: bool) -> None:
    if as_json:
        typer.echo(made.model_dump_json(by_alias=True, indent=2))
        return
    typer.echo(made.secret)
    if made.old_secret_until:
        typer.echo(f"what was signed before verifies until {made.old_secret_until:%Y-%m-%d %H:%M} UTC", err=True)


def _json(replies: Sequence[Reply]) -> str:
    return json.dumps([reply.model_dump(mode="json", by_alias=True) for reply in replies], indent=2)
