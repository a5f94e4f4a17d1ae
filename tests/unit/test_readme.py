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
from tests.shown import DOCUMENTS, ROOT, block

README = DOCUMENTS[ROOT / "README.md"]


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
    module = ModuleType("my_poems")
    monkeypatch.setitem(sys.modules, "my_poems", module)
    exec(compile(block("poems = Pipeline("), "README.md", "exec"), module.__dict__)
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(document: Path) -> None:
    named = set(re.findall(r"`((?:actors|docs|tools|benchmarks|tests)/[\w/.]+)`", DOCUMENTS[document]))
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_test_and_mutant_that_readme_names_is_there() -> None:
    table = [row.split("|") for row in README.splitlines() if re.match(r"\| P\d+ \|", row)]
    assert len(table) == 11
    tests = {test for row in table for test in re.findall(r"`(test_\w+\.py)`", row[3])}
    assert not [test for test in tests if not (ROOT / "tests" / "integration" / test).exists()]
    named = {name for row in table for name in row[5].strip().split("; ")} - {"none"}
    assert named == {mutant.name for mutant in MUTANTS}


def test_what_readers_are_told_is_named_as_it_is_said() -> None:
    table = "".join(DOCUMENTS.values()).partition("| message | stage | means |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `([\w ]+)`", table, re.MULTILINE)
    assert named == [progress.RETRIEVING, progress.PASSAGES, progress.CHOOSING, progress.calling("calculator")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(((?!http)[^)]+)\)", DOCUMENTS[document])
    for place, _, heading in (link.partition("#") for link in links):
        target = document.parent / place if place else document
        assert target.resolve().exists(), place
        assert not heading or heading in headings(DOCUMENTS[target.resolve()]), f"{place}#{heading}"


def headings(text: str) -> set[str]:
    """What a link may lead to in a file."""
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


def test_the_readme_shows_the_runs_of_chaos_that_are_kept() -> None:
    assert kept() in README
