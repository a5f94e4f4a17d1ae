"""The Serve applications: which pipelines, behind which routes.

Each function builds one application, so `serve deploy` can name it by import path (`serve.yaml` does); `headrace up`
deploys all of them. `python serve_app.py` prints that file for the pipelines that are set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import yaml
from pydantic import BaseModel
from ray import serve
from starlette.types import ASGIApp

from actors.clock import Clock
from actors.runtime.deployment import (
    http_application,
    loop_application,
    overflow_application,
    overflow_name,
    stage_application,
)
from actors.runtime.replica import load_pipelines
from actors.runtime.settings import Settings
from actors.webhooks import Webhooks

API, EVENTS, CLOCK, WEBHOOKS = "api", "events", "clock", "webhooks"

EVENTS_ROUTE = "/v1/events"


class StageArguments(BaseModel):
    """Which stage an application runs, or which one's overflow."""

    stage: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """One application as Serve is to run it; without a route nothing reaches it by HTTP."""

    name: str
    route: str | None
    application: serve.Application


def api(_: dict[str, str] | None = None) -> serve.Application:
    """The ingress: it validates, appends and answers."""
    return _api(Settings())


def events(_: dict[str, str] | None = None) -> serve.Application:
    """The result actor: it fans events out."""
    return _events(Settings())


def clock(_: dict[str, str] | None = None) -> serve.Application:
    """The clock; one is enough."""
    return _clock(Settings())


def webhooks(_: dict[str, str] | None = None) -> serve.Application:
    """What tells endpoints of outcomes; one is enough."""
    return _webhooks(Settings())


def stage(arguments: StageArguments) -> serve.Application:
    """One stage of the pipelines that are set."""
    return _stages(Settings())[arguments.stage]


def applications(settings: Settings) -> list[Deployed]:
    """All of them, in the order in which they start to be useful."""
    return [
        Deployed(API, "/", _api(settings)),
        Deployed(EVENTS, EVENTS_ROUTE, _events(settings)),
        *(Deployed(name, None, application) for name, application in _stages(settings).items()),
        Deployed(CLOCK, None, _clock(settings)),
        Deployed(WEBHOOKS, None, _webhooks(settings)),
    ]


def config(settings: Settings) -> str:
    """The file that `serve deploy` takes, for these pipelines."""
    stages = [
        {"name": name, "import_path": "serve_app:stage", "route_prefix": None, "args": {"stage": name}}
        for name in _stages(settings)
    ]
    routed = [
        {"name": API, "import_path": "serve_app:api", "route_prefix": "/"},
        {"name": EVENTS, "import_path": "serve_app:events", "route_prefix": EVENTS_ROUTE},
    ]
    beside = [{"name": name, "import_path": f"serve_app:{name}", "route_prefix": None} for name in (CLOCK, WEBHOOKS)]
    whole = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": settings.host, "port": settings.port or 8000},
        "applications": [*routed, *stages, *beside],
    }
    written: str = yaml.safe_dump(whole, sort_keys=False)
    return "# Written by `python serve_app.py`; a test compares.\n" + written


def _api(settings: Settings) -> serve.Application:
    return http_application(API, partial(_build_api, settings))


def _events(settings: Settings) -> serve.Application:
    return http_application(EVENTS, partial(_build_events, settings))


def _clock(settings: Settings) -> serve.Application:
    options = {"num_cpus": 0.1}
    return loop_application(CLOCK, partial(Clock, settings), replicas=1, actor_options=options, drain=settings.drain)


def _webhooks(settings: Settings) -> serve.Application:
    options = {"num_cpus": 0.05}
    make = partial(Webhooks, settings)
    return loop_application(WEBHOOKS, make, replicas=1, actor_options=options, drain=settings.drain)


def _stages(settings: Settings) -> dict[str, serve.Application]:
    stages = load_pipelines(settings.pipelines).stages
    found = {name: stage_application(settings, stage) for name, stage in stages.items()}
    for stage in stages.values():
        if overflow := overflow_application(settings, stage):
            found[overflow_name(stage)] = overflow
    return found


def _build_api(settings: Settings) -> ASGIApp:
    from actors.ingress import ingress

    return ingress(settings)


def _build_events(settings: Settings) -> ASGIApp:
    from actors.results import results

    return results(settings)


if __name__ == "__main__":
    print(config(Settings()), end="")
