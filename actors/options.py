"""Options that several commands have: where the data is, which server holds it, and lengths of time."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA = Path(".headrace")

Data = Annotated[
    Path, typer.Option("--data", metavar="FOLDER", envvar="HEADRACE_DATA", help="The data folder of `headrace up`.")
]

NatsUrl = Annotated[
    str,
    typer.Option(
        "--nats-url",
        metavar="URL",
        envvar="HEADRACE_NATS_URL",
        help="The nats-server.",
        show_default="the one in the data folder",
    ),
]

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def span(typed: str) -> timedelta | None:
    """A length of time as people type it: 30m, 12h, 7d, up to 99,999 of them; None for anything else."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", typed)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
