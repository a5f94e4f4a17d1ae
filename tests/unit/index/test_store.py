from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from actors.index.store import Found, IndexUnusable, Known, Store

KNOWN = Known(b"d", "s")
TAILRACE = Found("mills:1", "A tailrace carries the water away from the wheel and back to the river.")
BREAD = Found("bread:1", "Knead the dough for ten minutes, and bake it until it is brown.")
NUMBER = Found("parts:1", "Part XJ-4711 is in the left drawer.")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "index.db", create=True)
    for n, found in enumerate((TAILRACE, BREAD, NUMBER)):
        store.put("f", str(n), KNOWN, [found])
    yield store
    store.close()


def test_a_word_finds_what_meaning_would_not(store: Store) -> None:
    assert store.search("Where is XJ-4711?", 1) == [NUMBER]


def test_a_meaning_finds_what_shares_no_word(store: Store) -> None:
    assert store.search("a recipe for bread", 3) == [BREAD]


def test_a_word_is_found_in_its_other_forms(store: Store) -> None:
    assert store.search("kneading", 1) == [BREAD]


def test_what_has_to_do_with_nothing_finds_nothing(store: Store) -> None:
    assert store.search("What is the capital of France?", 3) == []


@pytest.mark.parametrize(
    "odd", ["", "?!", '"', "* OR NEAR(", "what is the", "\0", "a" * 100_000, "'; DROP TABLE words"]
)
def test_any_question_may_be_asked(store: Store, odd: str) -> None:
    store.search(odd, 3)
    assert store.count() == (3, 3)


def test_both_ways_together_rank_first(store: Store) -> None:
    store.put("f", "3", KNOWN, [Found("river", "The river."), Found("moss", "Moss grows on wheels that stand.")])
    assert store.search("water of the wheel", 3)[0] == TAILRACE


def test_a_document_takes_the_place_of_what_it_was(store: Store) -> None:
    store.put("f", "0", Known(b"e", "t"), [Found("mills:1", "A sluice is a gate.")])
    assert store.count() == (3, 3)
    assert TAILRACE not in store.search("tailrace water wheel river", 3)
    assert store.known("f")["0"] == Known(b"e", "t")


def test_what_is_removed_is_not_found(store: Store) -> None:
    store.remove("f", "1")
    assert store.count() == (2, 2)
    assert store.search("dough", 3) == []


def test_an_index_is_there_again_and_for_others_at_once(store: Store, tmp_path: Path) -> None:
    other = Store.open(tmp_path / "index.db")
    assert other.search("dough", 1) == [BREAD]
    store.put("f", "4", KNOWN, [Found("yeast", "Yeast makes it rise.")])
    assert other.search("yeast", 1) == [Found("yeast", "Yeast makes it rise.")]
    other.close()


def test_a_document_that_fails_leaves_what_was_there(store: Store) -> None:
    with pytest.raises(TypeError):
        store.put("f", "1", KNOWN, [Found("bread:1", "New."), Found(object(), "More.")])  # type: ignore[arg-type]
    assert store.search("dough", 1) == [BREAD]
    assert store.count() == (3, 3)


def test_a_file_that_is_no_index_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 40)
    with pytest.raises(IndexUnusable, match="cannot be opened as an index"):
        Store.open(tmp_path / "text")
    with pytest.raises(IndexUnusable, match="cannot be opened as an index"):
        Store.open(tmp_path / "missing" / "index.db", create=True)


@pytest.mark.parametrize("change", ["PRAGMA user_version = 99", "UPDATE made_with SET embedding = 'another'"])
def test_an_index_of_another_kind_is_not_read(store: Store, tmp_path: Path, change: str) -> None:
    apsw.Connection(str(tmp_path / "index.db")).execute(change)
    with pytest.raises(IndexUnusable, match="remove it, and index anew"):
        Store.open(tmp_path / "index.db")
