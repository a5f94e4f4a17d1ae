from __future__ import annotations

from pathlib import Path

from actors.engines import Vllm
from actors.runtime.resource import as_set
from actors.runtime.settings import Settings


def test_a_stage_that_names_its_model_keeps_it_and_the_others_have_the_installations(tmp_path: Path) -> None:
    settings = Settings(model=str(tmp_path))
    models = [
        engine.model
        for engine in (as_set(Vllm(), settings), as_set(Vllm("its-own"), settings))
        if isinstance(engine, Vllm)
    ]
    assert models == [str(tmp_path), "its-own"]
