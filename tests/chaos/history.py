"""The history of a run: what clients, workers and faults did, as it happened."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done: when (seconds since 1970), what, and the rest."""

    at: float
    what: str
    said: dict[str, Any]


class Pen:
    """Writes a part of the history, one process's, each line at once: what was done before a SIGKILL is there."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}-{time.time_ns()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str, **said: object) -> None:
        os.write(self._file, json.dumps([time.time(), what, said]).encode() + b"\n")


def read(folder: Path) -> Iterator[Entry]:
    """Everything that was written, each process's part in its order."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:  # a process that was killed may have begun another line
            yield Entry(*json.loads(line))
