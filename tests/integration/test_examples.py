"""The pipelines of `examples/` and of README, with a scripted model; with a real one they run in test_real_model.py."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from actors import Pipeline
from actors.client import Headrace
from actors.contracts.events import Completed, HandOff, Progress, Record
from actors.engines import Engine, Scripted
from actors.journal.topology import JOBS
from examples import checked, summaries
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.serving import listening, settings_for
from tests.shown import BLOCKS, DOCUMENTS, block
from tests.workers import a_hand


@asynccontextmanager
async def at_work(servers: Servers, pipeline: Pipeline, **engines: Engine) -> AsyncIterator[Office]:
    """Workers for every stage of a pipeline, on these engines."""
    names = [stage.name for stage in pipeline.stages]
    async with opened(servers, stages=names) as journal, office_on(journal) as office, AsyncExitStack() as stack:
        for stage in pipeline.stages:
            used = replace(stage, uses=engines[stage.name]) if stage.name in engines else stage
            await stack.enter_async_context(a_hand(servers, pipeline, used))
        yield office


def answer(records: list[Record]) -> dict[str, Any]:
    outcome = records[-1].event
    assert isinstance(outcome, Completed), outcome
    return outcome.answer.body


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "mill.txt").write_text("A mill grinds grain.")
    (tmp_path / "deep" / "größe.md").write_text("A headrace feeds it.")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    return tmp_path


async def test_a_folder_is_summarised_behind_all_others_in_one_report(
    r1: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Scripted(says=lambda asked: asked.rpartition("\n\n")[2].upper())
    settings = settings_for(r1).model_copy(update={"pipelines": ("examples.summaries:summaries",)})
    async with at_work(r1, summaries.summaries, write=model) as office, listening(settings) as url:

        def reported() -> str:
            with Headrace(url) as headrace:
                return summaries.report(folder, headrace)

        first = await asyncio.to_thread(reported)
        again = await asyncio.to_thread(reported)
        info = await office.journal.signals.api(f"STREAM.INFO.{JOBS}", {"subjects_filter": "job.write.>"})
    assert first == "# Summaries\n\n## mill.txt\n\nA MILL GRINDS GRAIN.\n\n## deep/größe.md\n\nA HEADRACE FEEDS IT."
    assert again == first
    lanes = [subject.split(".")[2] for subject in info["state"]["subjects"]]
    assert len(lanes) == 2, "the second report made jobs of its own"
    assert all(lane.startswith("batch") for lane in lanes)
    assert len(model.computed) == 2


async def test_what_the_checker_objects_to_is_drafted_again(r1: Servers) -> None:
    drafter = Scripted(says=lambda asked: "A better one." if "Not like this" in asked else "A bad one.")
    checker = Scripted(says_structured=lambda asked: {"good": "better" in asked, "why": "it is bad"})
    async with at_work(r1, checked.checked, write=drafter, check=checker) as office:
        records = await office.outcome(await office.post(checked.checked, checked.Brief(text="Say something.")))
    assert answer(records) == {"text": "A better one.", "approved": True}
    assert [r.event.stage for r in records if isinstance(r.event, HandOff)] == ["write", "check"] * 2
    told = [(r.event.message, r.event.done) for r in records if isinstance(r.event, Progress)]
    assert told == [("checking", 1), ("checking", 2)]


async def test_a_checker_that_is_never_content_is_not_asked_for_ever(r1: Servers) -> None:
    checker = Scripted(says_structured=lambda asked: {"good": False, "why": "it is bad"})
    async with at_work(r1, checked.checked, write=Scripted(says="Hm."), check=checker) as office:
        records = await office.outcome(await office.post(checked.checked, checked.Brief(text="Say something.")))
    assert answer(records) == {"text": "Hm.", "approved": False}
    assert len([r for r in records if isinstance(r.event, Progress)]) == checked.ROUNDS


@pytest.mark.parametrize("example", [summaries, checked])
def test_an_example_is_short(example: ModuleType) -> None:
    assert example.__file__ is not None
    assert len(Path(example.__file__).read_text().splitlines()) < 60


async def test_the_pipeline_that_readme_shows_runs(r1: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_poems")
    monkeypatch.setitem(sys.modules, "my_poems", module)
    exec(compile(block("poems = Pipeline("), "README.md", "exec"), module.__dict__)
    async with at_work(r1, module.poems, think=Scripted(says="Water\nand stone")) as office:
        records = await office.outcome(await office.post(module.poems, module.Topic(name="a mill")))
    assert answer(records) == {"text": "Water\nand stone", "lines": 2}


def test_what_is_shown_of_an_example_stands_in_it() -> None:
    whole_text = "".join(DOCUMENTS.values())
    shown = re.findall(r"<!-- from (examples/\w+\.py) -->\n```python\n(.*?)```", whole_text, re.DOTALL)
    assert {path for path, _ in shown} == {"examples/summaries.py", "examples/checked.py"}
    for path, code in shown:
        whole = (Path(__file__).parents[2] / path).read_text()
        missing = [part for part in code.strip().split("\n\n\n") if part.strip() not in whole]
        assert not missing, f"{path} has no such part: {missing}"


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.strip().splitlines()[0][:40])
def test_every_block_of_python_that_is_shown_is_python(code: str) -> None:
    compile(code if not code.startswith("@stage") or "def " in code else f"{code}def f(): ...", "README.md", "exec")
