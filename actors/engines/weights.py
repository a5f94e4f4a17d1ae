"""Weights: the files that a model is loaded from, and how much of them the processes of an engine have read."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Self

import psutil

LENGTH_BYTES = 8
LONGEST_HEADER = 100_000_000
"""The format's own limit, in bytes: https://github.com/huggingface/safetensors."""


class Weights:
    """A model's files of weights, in the order in which they are loaded.

    Who loads them maps one after the other into its memory, and what was read of a file is what of it is there. So a
    load is watched from outside, whoever does it; nothing is known of one that reads its files in another way.
    """

    def __init__(self, files: list[Path]) -> None:
        self._sizes = {str(file.resolve()): file.stat().st_size for file in sorted(files, key=_in_order)}

    @classmethod
    def of(cls, model: str) -> Self:
        """Those of a folder; none for a model from the hub, whose files may yet have to come."""
        return cls(list(Path(model).expanduser().glob("*.safetensors")) if model else [])

    @property
    def size(self) -> int:
        """All of them, in bytes."""
        return sum(self._sizes.values())

    @property
    def mistake(self) -> str | None:
        """The first file that is not whole, and what to do; None when all are."""
        for name, size in self._sizes.items():
            with contextlib.suppress(OSError):
                if (whole := _whole_size(Path(name))) != size:
                    return f"{name} has {size:,} bytes and should have {whole:,}; copy it again"
        return None

    def read_by(self, process: psutil.Process) -> float | None:
        """How much of all it and what it started have read, from 0 to 1; None while none of them reads. Takes a while.

        Where several load a part each, the one that is farthest counts.
        """
        done = [share for each in _family(process) if (share := self._read_by_one(each)) is not None]
        return max(done, default=None)

    def _read_by_one(self, process: psutil.Process) -> float | None:
        there = self._mapped(process)
        if not there or not self.size:
            return None
        names = list(self._sizes)
        last = max(there, key=names.index)
        before = sum(self._sizes[name] for name in names[: names.index(last)])
        return min(1.0, (before + min(there[last], self._sizes[last])) / self.size)

    def _mapped(self, process: psutil.Process) -> dict[str, int]:
        """The files that it has mapped, and how many bytes of each are there."""
        with contextlib.suppress(psutil.Error, OSError):
            # How much is there takes long to find out, so only those are asked that have them mapped at all.
            if any(name in Path(f"/proc/{process.pid}/maps").read_text() for name in self._sizes):
                return {m.path: m.rss for m in process.memory_maps(grouped=True) if m.path in self._sizes}
        return {}


def _whole_size(file: Path) -> int:
    """How long a file of weights says that it is: the length of its header, the header, and what that names."""
    with file.open("rb") as weights:
        length = int.from_bytes(weights.read(LENGTH_BYTES), "little")
        try:
            header = json.loads(weights.read(min(length, LONGEST_HEADER)))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, AttributeError):
            ends = []  # cut off in its header, or no such file at all
    return LENGTH_BYTES + length + max(ends, default=0)


def _family(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def _in_order(file: Path) -> list[tuple[int, str]]:
    """`model-2-of-10` before `model-10-of-10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name)]
