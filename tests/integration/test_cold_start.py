"""A replica that starts says how far it is; a model that cannot be loaded says why, and comes up once it is mended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.journal.topology import ensure
from actors.runtime import replica as replicas
from actors.runtime.presence import WorkerStatus, workers_of
from actors.runtime.replica import Replica
from actors.runtime.settings import Settings
from tests.actions import watched_actions
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.office import office_on
from tests.spoken_pipeline import Cue, spoken
from tests.tiny_model import save_tiny_model
from tests.verify import kinds

pytestmark = [pytest.mark.vllm, pytest.mark.long, pytest.mark.timeout(300)]

BACKSTOP_S = 240.0


async def test_a_broken_model_folder_says_so_and_comes_up_by_itself_once_it_is_mended(
    r1: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "FIRST_RETRY_S", 1.0)
    folder = save_tiny_model(tmp_path / "tiny")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    known = Settings(nats_url=",".join(r1.urls), pipelines=("tests.spoken_pipeline:spoken",), model=str(folder))
    async with asyncio.timeout(BACKSTOP_S), opened(r1) as journal, office_on(journal) as office:
        await ensure(journal.signals, ["utter"], replicas=1, max_bytes=1 << 30, ack_wait=1.0)
        job = await office.post(spoken, Cue(text="a mill"), to="utter")
        with watched_actions() as actions:
            running = asyncio.create_task((replica := Replica(known, "utter")).run())
            seen: list[WorkerStatus] = []
            while "failed" not in {status.state for status in seen}:
                seen += await workers_of(journal.signals, "utter")
            weights.write_bytes(whole)
            while seen[-1].state != "ready":
                seen += await workers_of(journal.signals, "utter")
            failed = await actions.next("open_failed")
        assert f"{folder} is not whole: {weights} has {len(whole) // 2:,} bytes" in failed["reason"]
        assert {status.worker for status in seen} == {replica.name}
        assert {"failed", "loading", "ready"} <= {status.state for status in seen}
        assert "starting vLLM" in {status.detail for status in seen}
        assert kinds(await office.outcome(job))[-1] == "completed"
        await replica.stop(1.0)
        await running
