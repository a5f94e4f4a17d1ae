"""How a benchmark is started and ends: what may be asked of it, what it finds ready, and where its result goes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.engines import smollm2
from benchmarks.machine import ROOT
from benchmarks.progress import tell
from benchmarks.report import table
from benchmarks.result import RESULTS, Result

HOME = ROOT / ".headrace"


def options(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark can be asked: `quick`, and `out`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="only see that it runs, with scripted engines")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the result (default: %(default)s)")
    return parser


@contextmanager
def data_folder() -> Iterator[Path]:
    """A new folder on the disk that an installation would use: one in memory syncs nothing."""
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=HOME) as folder:
        yield Path(folder)


def small_model() -> Path:
    """The folder of the small real model; it is made at the first time."""
    HOME.mkdir(exist_ok=True)
    return smollm2.prepare(HOME / "models", say=tell)


def keep(result: Result, folder: Path) -> None:
    """Show a result, and write it to its folder."""
    print(table(result))
    tell(f"written to {result.write(folder)}")
