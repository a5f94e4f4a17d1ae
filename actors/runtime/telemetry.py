"""Logs for machines: one JSON object a line, with an `action`."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s"


def log_as_json(process: str) -> None:
    """Send this package's log lines to stderr as JSON, each with the name of the process. Safe to call again."""
    logger = logging.getLogger("actors")
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            FIELDS,
            rename_fields={"asctime": "at", "levelname": "level", "name": "logger"},
            static_fields={"process": process},
        )
    )
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
