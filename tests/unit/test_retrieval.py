from __future__ import annotations

from pathlib import Path

import pytest

from actors.index.folder import index_folder
from actors.index.store import IndexUnusable, Store
from actors.retrieval import Index
from actors.runtime.settings import Settings


def index_of(path: Path, folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "doc.txt").write_text(text)
    store = Store.open(path, create=True)
    index_folder(store, folder)
    store.close()


async def sources(index: Index, question: str) -> list[str]:
    return [passage.source for passage in await index.search(question)]


async def test_without_an_index_the_sample_corpus_is_searched(tmp_path: Path) -> None:
    async with Index(tmp_path / "index.db") as index:
        assert (await sources(index, "What is a tailrace?"))[0] == "mills/tailrace"
        assert await sources(index, "Quantum chromodynamics?") == []


async def test_an_index_is_found_as_soon_as_there_is_one_and_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with Index(path) as index:
        path.touch()  # as it is while it is being made
        assert await sources(index, "tailrace")
        index_of(path, tmp_path / "docs", "Querns are turned by hand.")
        assert await sources(index, "What is a quern?") == ["docs/doc.txt:1"]
        assert await sources(index, "tailrace") == []
        path.unlink()
        index_of(path, tmp_path / "other", "A fulling mill beats cloth.")
        assert await sources(index, "cloth") == ["other/doc.txt:1"]
        assert await sources(index, "quern") == []


async def test_a_file_that_is_no_index_is_known_before_there_is_a_question(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_text("notes " * 1_000)
    with pytest.raises(IndexUnusable, match="cannot be opened as an index"):
        async with Index(tmp_path / "index.db"):
            pass


def test_the_settings_say_where_it_is(tmp_path: Path) -> None:
    assert Settings(data=tmp_path).index_file == tmp_path / "index.db"
    assert Settings(data=tmp_path, index=str(tmp_path / "a.db")).index_file == tmp_path / "a.db"
