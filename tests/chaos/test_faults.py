"""Which faults a run has: what the machine cannot have is told of, and never silently left out."""

from __future__ import annotations

import pytest

from tests.chaos.faults import FAULTS, CutWire, FullDisk, Impossible, KillLeader, SlowDisk, StarveWorker, faults_for
from tests.chaos.machine import Machine
from tests.chaos.tampering import CannotTamper, Tampering, try_tampering

POOR = Machine(None, {"strace": "strace is not there", "wire": "nobody may lay one"})
RICH = Machine(None, {})


def names(*faults: object) -> list[str]:
    return [type(fault).__name__ for fault in faults]


def test_a_machine_that_has_everything_has_every_fault() -> None:
    assert names(*faults_for(3, RICH)) == [fault.__name__ for fault in FAULTS]
    assert "KillLeader" not in names(*faults_for(1, RICH))


def test_what_a_machine_cannot_have_is_left_out_and_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    left = {type(fault) for fault in faults_for(3, POOR)}
    assert set(FAULTS) - left == {CutWire, SlowDisk, FullDisk}
    told = capsys.readouterr().out
    assert f"{SlowDisk.name}, {FullDisk.name} (strace is not there)" in told
    assert f"{CutWire.name} (nobody may lay one)" in told


def test_a_run_that_asks_for_what_cannot_be_had_fails() -> None:
    assert names(*faults_for(1, RICH, [FullDisk.name])) == ["FullDisk"]
    assert names(*faults_for(1, POOR, [StarveWorker.name])) == ["StarveWorker"]
    assert not faults_for(1, RICH, [KillLeader.name])
    with pytest.raises(Impossible, match="strace is not there"):
        faults_for(1, POOR, [StarveWorker.name, FullDisk.name])
    with pytest.raises(Impossible, match=r"no fault 'bad luck'; there are:\n  a worker killed"):
        faults_for(1, RICH, ["bad luck"])


async def test_a_machine_without_strace_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tampering, "program", "no-such-strace")
    with pytest.raises(CannotTamper, match="install it"):
        await try_tampering()
