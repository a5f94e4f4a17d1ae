"""The small model, really converted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.engines import EngineError, smollm2


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_small_model_is_prepared_once_and_can_hold_a_conversation(tmp_path: Path) -> None:
    said: list[str] = []
    folder = smollm2.prepare(tmp_path, say=said.append)
    assert len(said) == 3
    assert all(line.startswith(smollm2.NAME) for line in said)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {path.name for path in folder.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == [smollm2.NAME]

    assert smollm2.prepare(tmp_path, say=said.append) == folder
    assert len(said) == 3


def test_a_conversion_that_dies_gives_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty.gguf"
    empty.write_bytes(b"")
    monkeypatch.setattr(smollm2, "_weights", lambda: empty)
    with pytest.raises(EngineError, match="could not be prepared in") as refused:
        smollm2.prepare(tmp_path / "models")
    assert "\n" not in str(refused.value)
    assert list((tmp_path / "models").iterdir()) == []
