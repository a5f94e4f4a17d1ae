"""What README shows is true of the code."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from actors import Job, Pipeline, progress
from tests.chaos.report import kept
from tests.mutants.planted import MUTANTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


class NoLog:
    """Where a step would keep what it did; the stage that is called here keeps nothing."""

    async def once(self, key: str, work: object) -> object:
        raise NotImplementedError

    async def speak(self, engine: object, prompt: object, sampling: object) -> str:
        raise NotImplementedError

    async def report(self, message: str, done: int | None, total: int | None) -> None:
        raise NotImplementedError


@pytest.fixture
def poems(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """README's pipeline, as the module that README says to save it as."""
    [code] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "poems = Pipeline(" in block]
    module = ModuleType("my_poems")
    monkeypatch.setitem(sys.modules, "my_poems", module)
    exec(compile(code, "README.md", "exec"), module.__dict__)
    return module


def test_the_pipeline_that_readme_shows_is_one(poems: ModuleType) -> None:
    pipeline = poems.poems
    assert isinstance(pipeline, Pipeline)
    assert pipeline.input is poems.Topic
    assert pipeline.answer is poems.Poem
    assert [stage.name for stage in pipeline.stages] == ["think", "count"]


def test_a_stage_that_readme_shows_is_tested_by_calling_it(poems: ModuleType) -> None:
    job = Job(id="a" * 26, pipeline="poems", attempt=1, deadline=datetime.now(UTC), log=NoLog())  # type: ignore[arg-type]
    assert poems.count(poems.Notes(text="one\ntwo"), job) == poems.Poem(text="one\ntwo", lines=2)


def test_every_file_that_readme_names_is_there() -> None:
    named = set(re.findall(r"`((?:actors|docs|tools|benchmarks|tests)/[\w/.]+)`", README))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_test_and_mutant_that_readme_names_is_there() -> None:
    table = [row.split("|") for row in README.splitlines() if re.match(r"\| P\d+ \|", row)]
    assert len(table) == 10
    tests = {test for row in table for test in re.findall(r"`(test_\w+\.py)`", row[3])}
    assert not [test for test in tests if not (ROOT / "tests" / "integration" / test).exists()]
    named = {name for row in table for name in row[5].strip().split("; ")} - {"none"}
    assert named == {mutant.name for mutant in MUTANTS}


def test_what_readers_are_told_is_named_as_it_is_said() -> None:
    table = README.partition("| message | stage | means |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `([\w ]+)`", table, re.MULTILINE)
    assert named == [progress.RETRIEVING, progress.PASSAGES, progress.CHOOSING, progress.calling("calculator")]


def test_every_link_of_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_readme_shows_the_runs_of_chaos_that_are_kept() -> None:
    assert kept() in README
