"""Both sides of a comparison: what Headrace streamed, and what the bare engine made, one right after the other.

After each generation of the bare engine comes one bare append. So the appends that Headrace's are compared with are
made at the same pace, on a machine that is just as awake: in a tight loop an append takes about half as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.engines import Engine
from benchmarks.bare_append import BareAppend
from benchmarks.followed import Client, Followed
from benchmarks.generated import Generated, generate, in_streams, rate
from benchmarks.processes import Processes, Shares

IN_A_ROW = 20


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: so many streams that begin over `spread_s` seconds, each with so many generations in a row."""

    streams: int
    jobs: int
    tokens: int
    spread_s: float

    def __str__(self) -> str:
        return "1 stream" if self.streams == 1 else f"{self.streams} streams"


@dataclass(frozen=True, slots=True)
class Sides:
    """One block: the same load on both sides. `appends_in_a_row` are what the same appends take in a tight loop."""

    ours: list[list[Followed]]
    bare: list[list[Generated]]
    appends: list[float]
    appends_in_a_row: list[float]
    busy: Shares

    @property
    def rate(self) -> float:
        """Tokens a second, POST to SSE."""
        return rate([[followed.generated for followed in stream] for stream in self.ours])

    @property
    def bare_rate(self) -> float:
        return rate(self.bare)

    @property
    def retained(self) -> float:
        """The share of the bare engine's tokens a second that is left."""
        return self.rate / self.bare_rate

    @property
    def followed(self) -> list[Followed]:
        return [followed for stream in self.ours for followed in stream]

    @property
    def first_tokens(self) -> list[float]:
        """Seconds from each POST to the first delta at its reader."""
        return [followed.generated.first_token_s for followed in self.followed]

    @property
    def bare_first_tokens(self) -> list[float]:
        return [generated.first_token_s for stream in self.bare for generated in stream]


class Comparison:
    """Takes both sides of one pipeline and the engine that it uses."""

    def __init__(
        self, client: Client, processes: Processes, append: BareAppend, *, engine: Engine, pipeline: str
    ) -> None:
        self._client = client
        self._processes = processes
        self._append = append
        self._engine = engine
        self._pipeline = pipeline
        self._made = 0

    async def sides(self, load: Load, *, bare_first: bool) -> Sides:
        """Take one block. Every prompt is new to both sides, so that no cache helps either."""
        numbers = range(self._made, self._made + load.streams * load.jobs)
        self._made = numbers.stop
        if bare_first:
            bare, appends = await self._bare(load, numbers)
            in_a_row = await self._append.times(IN_A_ROW)
            ours, busy = await self._ours(load, numbers)
        else:
            ours, busy = await self._ours(load, numbers)
            in_a_row = await self._append.times(IN_A_ROW)
            bare, appends = await self._bare(load, numbers)
        return Sides(ours, bare, appends, in_a_row, busy)

    async def _ours(self, load: Load, numbers: Sequence[int]) -> tuple[list[list[Followed]], Shares]:
        async def make(number: int) -> Followed:
            return await self._client.follow(self._pipeline, {"text": _prompt(number), "tokens": load.tokens})

        with self._processes.watched() as busy:
            streams = await in_streams(make, numbers, streams=load.streams, spread_s=load.spread_s)
        return streams, busy

    async def _bare(self, load: Load, numbers: Sequence[int]) -> tuple[list[list[Generated]], list[float]]:
        appends: list[float] = []

        async def make(number: int) -> Generated:
            generated = await generate(self._engine, _prompt(number), load.tokens)
            appends.extend(await self._append.times(1))
            return generated

        return await in_streams(make, numbers, streams=load.streams, spread_s=load.spread_s), appends


def _prompt(number: int) -> str:
    """The number comes first, so that no two prompts have a beginning in common."""
    return f"{number} millstones turn in {number} mills. Say what drives them, how the water gets there, and why."
