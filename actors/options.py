"""Options that several commands have: where the data is, and which server holds it."""

from __future__ import annotations

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
