from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.engines import EngineError, smollm2

Convert = Callable[[Path, Path, Callable[[str], None]], None]


def writes_a_model(gguf: Path, folder: Path, say: Callable[[str], None]) -> None:
    say("writing")
    folder.mkdir()
    (folder / "config.json").write_text("{}")


@pytest.fixture
def use_conversion(monkeypatch: pytest.MonkeyPatch) -> Callable[[Convert], None]:
    """Replace the conversion, which takes half a minute; the whole of it runs in tests/integration."""
    return lambda convert: monkeypatch.setattr(smollm2, "_convert_in_a_process", convert)


def test_a_model_that_is_there_is_left_as_it_is(tmp_path: Path, use_conversion: Callable[[Convert], None]) -> None:
    use_conversion(writes_a_model)
    folder = smollm2.prepare(tmp_path / "models")
    said: list[str] = []
    assert smollm2.prepare(tmp_path / "models", say=said.append) == folder
    assert (folder.name, said) == (smollm2.NAME, [])


def test_a_conversion_that_fails_leaves_nothing_behind(
    tmp_path: Path, use_conversion: Callable[[Convert], None]
) -> None:
    def stops_half_way(gguf: Path, folder: Path, say: Callable[[str], None]) -> None:
        writes_a_model(gguf, folder, say)
        raise EngineError("half way")

    use_conversion(stops_half_way)
    with pytest.raises(EngineError, match="half way"):
        smollm2.prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_conversion_left_is_swept_away(tmp_path: Path, use_conversion: Callable[[Convert], None]) -> None:
    use_conversion(writes_a_model)
    left = tmp_path / f".{smollm2.NAME}.unfinished"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert [path.name for path in smollm2.prepare(tmp_path).iterdir()] == ["config.json"]
    assert not left.exists()


def test_two_that_want_it_at_once_convert_it_once(tmp_path: Path, use_conversion: Callable[[Convert], None]) -> None:
    conversions: list[Path] = []
    began, may_end = threading.Event(), threading.Event()

    def converts_slowly(gguf: Path, folder: Path, say: Callable[[str], None]) -> None:
        conversions.append(folder)
        began.set()
        assert may_end.wait(30)
        writes_a_model(gguf, folder, say)

    use_conversion(converts_slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(smollm2.prepare, tmp_path)
        assert began.wait(30)
        second = pool.submit(smollm2.prepare, tmp_path)
        may_end.set()
        assert first.result() == second.result() == tmp_path / smollm2.NAME
    assert len(conversions) == 1


def test_without_its_package_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_PACKAGE", "no_such_package")
    with pytest.raises(EngineError, match="make setup"):
        smollm2.prepare(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineError, match=r"could not be prepared in .*file/models: Not a directory"):
        smollm2.prepare(tmp_path / "file" / "models")
