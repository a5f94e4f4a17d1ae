"""A turn: whether a replica takes jobs now, or holds back for others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Turn(Protocol):
    """Whose turn it is, as one replica sees it. Before it has looked, it holds back."""

    @property
    def holds_back(self) -> str:
        """Why its replica takes no jobs; empty while it does."""
        ...

    async def watch(self, wake: Callable[[], None]) -> None:
        """Keep looking, for ever; `wake` is called whenever its replica is to take jobs from now on."""
        ...
