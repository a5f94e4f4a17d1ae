from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from actors.contracts.generation import Sampling
from benchmarks.machine import ROOT
from benchmarks.tally import Observed, Tally


def test_each_process_has_its_own_count_and_all_have_one_sum(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "tally")
    tally.add(2)
    tally.add(1)
    add = f"from pathlib import Path; from benchmarks.tally import Tally; Tally(Path({str(tally.path)!r})).add(4)"
    subprocess.run([sys.executable, "-c", add], cwd=ROOT, check=True)
    assert tally.by_process[os.getpid()] == 3
    assert sorted(tally.by_process.values()) == [3, 4]
    assert tally.tokens == 7


async def test_the_model_that_an_installation_names_is_the_folder_of_the_tally(tmp_path: Path) -> None:
    engine = Observed(says="one two three").with_model(str(tmp_path))
    async with engine:
        pieces = engine.generate("", engine.encode("?"), Sampling(max_tokens=10))
        made = [token async for piece in pieces for token in piece.tokens]
    assert Tally(tmp_path).tokens == len(made) > 0
