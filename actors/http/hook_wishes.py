"""Wishes about webhooks: where to be told, and of what."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from actors.contracts.webhook import EVERYTHING, MOST_URL, EventFilter, JobHook
from actors.http.egress import EgressRefused, checked
from actors.http.problem import INVALID, Refusal, fault
from actors.http.wishes import Wish


def _may_be_asked(url: str) -> str:
    try:
        checked(url)
    except EgressRefused as refused:
        raise ValueError(str(refused)) from None
    return url


HookUrl = Annotated[
    str,
    AfterValidator(_may_be_asked),
    Field(
        min_length=1,
        max_length=MOST_URL,
        pattern="^https?://",
        description="Where it is POSTed to: https, and http only where HEADRACE_EGRESS_ALLOW names networks.",
    ),
]
Events = Annotated[
    list[EventFilter],
    Field(min_length=1, max_length=16, description="Which events: by name, or `job.*` and `response.*` for all."),
]
Description = Annotated[str, Field(max_length=200)]


class JobWebhook(Wish):
    """Where it is told what becomes of one job, signed with the tenant's own secret (`GET /v1/webhooks/secret`)."""

    url: HookUrl
    events: Events = Field(default_factory=lambda: list(EVERYTHING))

    @property
    def hook(self) -> JobHook:
        """What is kept of it with the job."""
        return JobHook(url=self.url, events=tuple(self.events))


class NewEndpoint(Wish):
    """An endpoint to be told of what happens to the tenant's jobs from now on."""

    url: HookUrl
    events: Events = Field(default_factory=lambda: list(EVERYTHING))
    description: Description = Field(default="", description="Whatever helps you tell it from others.")


class EndpointChange(Wish):
    """What is to be otherwise with an endpoint. What is left out stays."""

    url: HookUrl | None = None
    events: Events | None = None
    description: Description | None = None
    disabled: bool | None = Field(default=None, description="While it is, nothing is sent to it, and nothing kept.")


def expect_https(url: str | None, *, allow_http: bool, within: str = "") -> None:
    """Raises Refusal for a URL whose answers anybody on the way could read."""
    if url is not None and not allow_http and not url.lower().startswith("https:"):
        place = (within, "url") if within else ("url",)
        detail = "Take an https URL; http is for networks of your own, which HEADRACE_EGRESS_ALLOW names."
        raise Refusal(INVALID, detail, errors=[fault(place, "it must be https")])
