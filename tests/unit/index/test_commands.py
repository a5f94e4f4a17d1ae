from __future__ import annotations

from pathlib import Path

import pytest

from actors.cli import main
from actors.index.store import Store


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as exited:
        main([str(arg) for arg in args])
    assert isinstance(exited.value.code, int)
    return exited.value.code


def test_a_folder_is_indexed_and_what_was_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "mill.md").write_text("A mill grinds grain.")
    (docs / "picture.png").write_bytes(b"\x89PNG")
    data = tmp_path / "new" / "data"
    assert run("index", docs, "--data", data) == 0
    out, err = capsys.readouterr()
    assert out == (
        f"1 added, 0 changed, 0 unchanged, 0 removed, 1 skipped; {data / 'index.db'} has 1 documents in 1 passages\n"
    )
    assert err == "skipped picture.png: it is no UTF-8 text (byte 0): convert it to text first\n"
    store = Store.open(data / "index.db")
    assert [found.source for found in store.search("grain", 1)] == ["docs/mill.md:1"]
    store.close()


def test_the_index_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    assert run("index", tmp_path / "docs", "--index", tmp_path / "a.db") == 0
    monkeypatch.setenv("HEADRACE_INDEX", str(tmp_path / "b.db"))
    assert run("index", tmp_path / "docs") == 0
    assert (tmp_path / "a.db").exists()
    assert (tmp_path / "b.db").exists()


def test_a_mistyped_folder_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index", tmp_path / "nowhere", "--data", tmp_path / "data") == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_index_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "notes.txt").write_text("these are somebody's notes, and no database " * 30)
    assert run("index", tmp_path / "docs", "--index", tmp_path / "notes.txt") == 1
    assert "cannot be opened as an index" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text().startswith("these are")
