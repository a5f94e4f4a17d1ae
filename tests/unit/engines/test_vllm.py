"""What Vllm can tell without a model: these tests load neither vLLM nor torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from actors.engines import EngineError, Vllm
from actors.engines.protocol import Opening
from actors.engines.vllm import GPU_SHARE, after, digest


def test_importing_the_engines_loads_neither_vllm_nor_torch() -> None:
    script = (
        "import sys, actors.engines; print(sorted({'vllm', 'torch', 'transformers', 'ray', 'nats'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"[]\n"


async def open_model(model: str | None) -> str:
    """What is said when this model is opened."""
    with pytest.raises(EngineError) as refused:
        await Vllm(model).__aenter__()
    said = str(refused.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("model", ["/nowhere/model", "./nowhere", "~/nowhere/model", "nowhere/at/all"])
async def test_a_missing_folder_is_named_in_one_sentence(model: str) -> None:
    said = await open_model(model)
    assert said.startswith("there is no model in ")
    assert said.endswith(f"{model.lstrip('~./')}; name a folder with a model in it, or one on the hub")


async def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"GGUF")
    assert "there is no model in" in await open_model(str(tmp_path / "weights.gguf"))


async def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    assert "it has no config.json" in await open_model(str(tmp_path))


async def test_without_a_model_it_says_that_one_must_be_named() -> None:
    assert "no model is named" in await open_model(None)


async def test_an_engine_that_is_not_open_says_so() -> None:
    with pytest.raises(EngineError, match="not open"):
        await Vllm("somewhere").check()


def test_another_model_is_another_engine_with_the_same_options() -> None:
    engine = Vllm(max_model_len=1024, dtype="float16")
    other = engine.with_model("other")
    assert (other.model, other.max_model_len, other.dtype) == ("other", 1024, "float16")
    assert engine.model is None


@pytest.mark.parametrize(
    ("gpus", "declared", "memory", "parallel"),
    [
        (1, Vllm(), GPU_SHARE, 1),
        (0.5, Vllm(), GPU_SHARE / 2, 1),
        (0.5, Vllm(gpu_memory_utilization=0.4), 0.4, 1),
        (2, Vllm(tensor_parallel=2), GPU_SHARE, 2),
        (0, Vllm(tensor_parallel=2), GPU_SHARE, 1),
    ],
)
def test_its_memory_and_its_gpus_follow_the_stage(gpus: float, declared: Vllm, memory: float, parallel: int) -> None:
    placed = declared.on(gpus)
    assert placed.gpu_memory_utilization == pytest.approx(memory)
    assert placed.tensor_parallel == parallel


@pytest.mark.parametrize("wrong", [{"tensor_parallel": 0}, {"tensor_parallel": 1.5}, {"gpu_memory_utilization": 1.1}])
def test_options_that_no_gpu_can_have_are_named(wrong: dict[str, float]) -> None:
    assert next(iter(wrong)) in (Vllm(**wrong).mistake_on(1) or "")  # type: ignore[arg-type]


def test_how_far_a_load_is_never_goes_back_and_ends_with_the_weights() -> None:
    told, now = [], Opening("starting vLLM")
    for read in (None, 0.1, 0.4, 0.3, None, None):
        now = after(now, read)
        told.append(str(now))
    assert told == [
        "starting vLLM",
        "loading weights, 10 %",
        "loading weights, 40 %",
        "loading weights, 40 %",
        "compiling and warming up",
        "compiling and warming up",
    ]


def test_a_model_is_known_by_its_words_and_its_weights_wherever_it_runs(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights" * 20_000)
    assert digest(here) == digest(there)
    (there / "model.safetensors").write_bytes(b"weights" * 19_999 + b"others!")
    assert digest(here) != digest(there)
    (there / "model.safetensors").write_bytes(b"weights" * 20_000)
    (there / "tokenizer.json").write_text("{}")
    assert digest(here) != digest(there)
