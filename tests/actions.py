"""What the loops of ours say they do: their log lines, by action, as they come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BACKSTOP_S = 30.0


class Actions(logging.Handler):
    """Collects log lines that have an action."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[dict[str, Any]] = []
        self._said = asyncio.Event()
        self._read = 0

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "action"):
            self.all.append(vars(record))
            self._said.set()

    async def next(self, action: str, **fields: object) -> dict[str, Any]:
        """The next line with this action and these fields that nobody has waited for yet."""
        async with asyncio.timeout(BACKSTOP_S):
            while True:
                while self._read < len(self.all):
                    line = self.all[self._read]
                    self._read += 1
                    if line["action"] == action and fields.items() <= line.items():
                        return line
                self._said.clear()
                await self._said.wait()

    def count(self, action: str, **fields: object) -> int:
        """How many lines there were so far with this action and these fields."""
        return sum(line["action"] == action and fields.items() <= line.items() for line in self.all)


@contextmanager
def watched_actions() -> Iterator[Actions]:
    """The actions of everything of ours, from here on."""
    actions, logger = Actions(), logging.getLogger("actors")
    level = logger.level
    logger.addHandler(actions)
    logger.setLevel(logging.INFO)
    try:
        yield actions
    finally:
        logger.removeHandler(actions)
        logger.setLevel(level)
