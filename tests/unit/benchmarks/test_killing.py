from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.crowd import Asked
from benchmarks.killing import Killed, Load, Scene, kill, killed
from benchmarks.result import Bar
from benchmarks.tally import Tally

LOAD = Load(jobs=4, tokens=9)


class Sleepers:
    """Two processes that make nothing; whoever asks writes a tally for them. The killed one's jobs stay unanswered."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.processes: list[asyncio.subprocess.Process] = []
        self._asked = 0

    async def start(self) -> None:
        while len(self.processes) < 2:
            self.processes.append(await asyncio.create_subprocess_exec("sleep", "60"))

    async def ask(self, asked: Asked) -> None:
        idle, busy = self.processes
        self._asked += 1
        process, tokens = (idle, 1) if self._asked == 1 else (busy, 5)
        mine = self.tally.path / str(process.pid)
        mine.write_bytes((mine.read_bytes() if mine.exists() else b"") + b"." * tokens)
        await busy.wait()
        asked.ended = time.time()
        asked.trouble = "no answer" if process is busy else ""

    async def idle(self) -> None: ...


async def test_the_process_that_has_made_most_is_killed_amid_its_jobs(tmp_path: Path) -> None:
    sleepers = Sleepers(Tally(tmp_path))
    taken = await kill("sleepers", Scene(sleepers, sleepers.tally, sleepers.start), LOAD)
    idle, busy = sleepers.processes
    assert busy.returncode == -signal.SIGKILL
    assert idle.returncode is None
    idle.kill()
    await idle.wait()
    assert (taken.answered, taken.lost, taken.computed, taken.by_killed) == (1, 3, 16, 15)


def kills(*of: tuple[int, int, int]) -> Sequence[Killed]:
    return [Killed(LOAD, answered, computed, by_killed, 2.0) for answered, computed, by_killed in of]


def test_what_is_made_again_and_what_is_lost_were_both_made_for_nothing() -> None:
    lost, tokens, last = killed("a side", kills((4, 36 + 10, 10), (2, 18 + 10, 10)), Bar(most=0))
    assert (lost.estimate.value, lost.met, lost.detail) == (2, False, "2 of 8")
    assert tokens.estimate.value == 1.0
    assert (last.estimate.value, last.unit) == (2.0, "s")


def test_a_side_that_answers_nothing_any_more_has_no_last_answer() -> None:
    rows = killed("a side", [Killed(LOAD, answered=0, computed=10, by_killed=10, last_s=None)])
    assert [row.estimate.value for row in rows] == [4, 1.0]
