"""Asking: ever more users, on every side right after each other, in turns of order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from benchmarks.answering import FEW, Block, Side
from benchmarks.crowd import Desk, crowd
from benchmarks.progress import tell

TEXT = "Which mills on this river have two wheels, and what does each of them grind?"

WARM_UP = 200, 2.0
"""Who asks before it counts, and for how many seconds: enough for connections that are made once to be there."""


@dataclass(frozen=True, slots=True)
class Asking:
    """So many rounds of these crowds: how many users, and for how many seconds they ask; and how long answers are."""

    crowds: tuple[tuple[int, float], ...] = ((5, 12.0), (FEW, 12.0), (500, 8.0), (1_000, 6.0))
    rounds: int = 2
    tokens: int = 64


QUICK = Asking(crowds=((50, 1.0), (200, 1.0)), rounds=1, tokens=8)


async def ask_all(asking: Asking, desks: Mapping[str, Desk]) -> list[Side]:
    """Every round of every crowd, on all sides, with the same moments of asking; the other sides are idle meanwhile."""
    names, blocks = list(desks), list[Block]()
    for desk in desks.values():
        await desk.idle()
        await crowd(desk, *WARM_UP, Random(0))
    for number in range(asking.rounds):
        for at, (users, seconds) in enumerate(asking.crowds):
            first = (number + at) % len(names)
            for name in names[first:] + names[:first]:
                asked = await crowd(desks[name], users, seconds, Random(1_000 * number + users))
                blocks.append(Block(name, users, asked))
                tell(str(blocks[-1]))
                await desks[name].idle()
    return [
        Side(name, users, [block for block in blocks if (block.side, block.users) == (name, users)])
        for users, _ in asking.crowds
        for name in names
    ]
