"""The search: every state that can be reached with so many faults, breadth first, and whether each leads to an end."""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field

from tests.model.events import WORDS, fold
from tests.model.protocol import Protocol, State

STUCK = "stuck: nothing that happens by itself leads to an outcome with every hand-off acked"


@dataclass
class Found:
    """What a search has found: what is broken and the shortest way there, or nothing, and how many states it saw."""

    faults: int
    states: int = 0
    steps: int = 0
    depth: int = 0
    seconds: float = 0.0
    broken: str = ""
    trace: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)


def check(mutant: str, faults: int, *, fewest: bool = True) -> Found:
    """Search with ever more faults, up to so many, until something is broken; unless `fewest` is off."""
    found = Found(faults)
    for number in range(0 if fewest else faults, faults + 1):
        found = search(Protocol(mutant), number)
        if found.broken:
            break
    return found


def search(protocol: Protocol, faults: int) -> Found:
    """Look at every state that can be reached. States are kept as hashes; a trace is replayed from its choices."""
    fold.cache_clear()
    return _Search(protocol, faults).run()


class _Search:
    def __init__(self, protocol: Protocol, faults: int) -> None:
        self._protocol = protocol
        self._first = protocol.first(faults)
        self._found = Found(faults)
        self._parent = array("i", [-1])
        self._choice = array("B", [0])
        self._goal = bytearray(1)
        self._fair_from = array("i")
        self._fair_to = array("i")

    def run(self) -> Found:
        began = time.monotonic()
        at = self._explore()
        if not self._found.broken and (stuck := self._first_stuck()):
            self._found.broken, at = STUCK, self._path(stuck)
        self._found.trace = self._replay(at) if self._found.broken else []
        self._found.seconds = time.monotonic() - began
        return self._found

    def _explore(self) -> list[int]:
        """Fill in all there is; the choices that led to what is broken, if anything is."""
        protocol, found, goal = self._protocol, self._found, self._goal
        index, frontier = {hash(self._first): 0}, deque([(self._first, 0, 0)])
        while frontier:
            s, me, found.depth = frontier.popleft()
            for k, step in enumerate(protocol.steps(s)):
                found.steps += 1
                if step.after.bad:
                    found.broken, found.states = step.after.bad, len(index)
                    return [*self._path(me), k]
                t, _ = protocol.normal(step.after)
                to = index.setdefault(hash(t), len(index))
                if to == len(goal):
                    self._parent.append(me)
                    self._choice.append(k)
                    goal.append(protocol.is_goal(t))
                    found.endings[WORDS[t.log[-1]]] += goal[to]
                    frontier.append((t, to, found.depth + 1))
                if step.fair and not goal[me]:
                    self._fair_from.append(me)
                    self._fair_to.append(to)
        found.states = len(index)
        return []

    def _first_stuck(self) -> int:
        """The shallowest state from which what happens by itself cannot reach an end; 0 if there is none."""
        good, before = bytearray(self._goal), -1
        while before != (before := good.count(1)):
            for a, b in zip(reversed(self._fair_from), reversed(self._fair_to), strict=True):
                if good[b]:
                    good[a] = 1
        return max(0, good.find(0, 1))

    def _path(self, at: int) -> list[int]:
        path: list[int] = []
        while at > 0:
            path.insert(0, self._choice[at])
            at = self._parent[at]
        return path

    def _replay(self, path: list[int]) -> list[str]:
        """The trace for people; workers that were put in order keep their names."""
        per, s, lines = self._protocol.bounds.workers, self._first, []
        names = [f"{stage} {n + 1} " for stage in ("writer", "polisher") for n in range(per)]
        for n, k in enumerate(path, 1):
            step = list(self._protocol.steps(s))[k]
            who = names[step.who] if step.who >= 0 else ""
            lines.append(f"{n:3}. {who}{step.what}{_grown(s, step.after)}")
            s, order = self._protocol.normal(step.after)
            names = [names[i] for i in order]
        return lines


def _grown(before: State, after: State) -> str:
    new = after.log[len(before.log) :]
    return "".join(f"   -> sequence {len(after.log)}: {WORDS[event]}" for event in new)
