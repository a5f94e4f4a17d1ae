"""The start and the stop of everything: this is what `headrace up` and `make run` do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from actors.contracts.errors import HeadraceError


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What to start, and where. None leaves a choice to the settings and their defaults.

    `port` is explicit when it is given: if it is taken, that is an error. `pipelines` are import paths, `module:name`;
    without any, the ones that come with Headrace are served. With `once`, all of it stops after the sample job.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    model: str | None = None
    nats_url: str | None = None
    data: Path | None = None
    once: bool = False
    pipelines: tuple[str, ...] = ()


def up(options: LaunchOptions) -> int:
    """Start everything, run the sample job, and serve until Ctrl-C. Returns the exit status."""
    raise HeadraceError(f"nothing can be started on {options.host} yet")
