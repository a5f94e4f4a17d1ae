"""vLLM as an engine, on a GPU or a CPU: the one door to it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import psutil
from pydantic import ValidationError

from actors.contracts.errors import RetryableError, TerminalError
from actors.contracts.generation import FinishReason, Piece, Prompt, Sampling
from actors.engines.detokenizer import Detokenizer
from actors.engines.protocol import Decoder, Engine, EngineError, Opening, Pulse
from actors.engines.weights import Weights

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

GIB = 1 << 30

KV_CACHE_ON_CPU_GIB = 1.0
"""Room for attention on a CPU where nobody says how much; a GPU takes what `gpu_memory_utilization` leaves."""

GPU_SHARE = 0.9
"""What vLLM takes of the memory of the GPUs that a replica has, or of its part of one; the rest is for others there."""

LOADING = "loading weights"
WARMING_UP = "compiling and warming up"

LOOK_EVERY_S = 1.0
"""How often it is looked how far a load is, in seconds."""

WEIGHTS_LOOKED_AT = 1 << 16
"""How many bytes of each file of weights tell one model from another."""

CLOSE_S = 10.0
"""How long the engine's processes may take to end; they hold nothing that is worth waiting for."""

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort"}


@dataclass
class Vllm(Engine):
    """A model in vLLM's AsyncLLM, which runs it in a process of its own and batches whatever is asked at once.

    `max_model_len` is the most tokens of prompt and output together, `max_num_seqs` how many requests are batched.
    `gpu_memory_utilization` is the share of a GPU's memory that vLLM takes, weights included; None follows the stage:
    nine tenths of what of a GPU it has. `kv_cache_gib` gives attention a fixed room instead, and is what counts on a
    CPU. `tensor_parallel` is over how many GPUs the model is spread, all of them the stage's (`gpus`).
    `enforce_eager` does without compiled graphs: slower to generate, quicker to start; None does without them on a CPU
    only.
    """

    model: str | None = None
    _: KW_ONLY
    max_model_len: int = 2048
    max_num_seqs: int = 64
    dtype: str = "bfloat16"
    gpu_memory_utilization: float | None = None
    tensor_parallel: int = 1
    kv_cache_gib: float | None = None
    enforce_eager: bool | None = None

    def __post_init__(self) -> None:
        self._llm: AsyncLLM | None = None
        self._tokenizer: Any = None
        self._decode: Callable[[list[int]], str] = str
        self._revision = ""
        self._names = (f"unnamed-{n}" for n in itertools.count())
        self._steps = 0
        self._running = 0
        self._opening: Opening | None = None

    def with_model(self, model: str) -> Self:
        return replace(self, model=model)

    def on(self, gpus: float) -> Self:
        share = GPU_SHARE * min(gpus, 1.0) if gpus else GPU_SHARE
        return replace(
            self,
            gpu_memory_utilization=self.gpu_memory_utilization or share,
            tensor_parallel=self.tensor_parallel if gpus else 1,
        )

    def mistake_on(self, gpus: float) -> str | None:
        taken, spread = self.gpu_memory_utilization, self.tensor_parallel
        if not (isinstance(spread, int) and not isinstance(spread, bool) and spread >= 1):
            return f"tensor_parallel={spread!r} must be a whole number of GPUs, at least 1"
        if taken is not None and not 0 < taken <= 1:
            return f"gpu_memory_utilization={taken} must be a share of a GPU's memory, over 0 and at most 1"
        if spread > 1 and gpus != spread:
            return (
                f"tensor_parallel={spread} takes {spread} GPUs and the stage has gpus={gpus:g}; give it gpus={spread}"
            )
        if gpus > 1 and gpus != spread:
            return f"gpus={gpus:g} and its vLLM uses one; write Vllm(tensor_parallel={gpus:g}), or gpus=1"
        if taken is not None and 0 < gpus < 1 and taken > gpus:
            return (
                f"gpus={gpus:g} is that part of a GPU and gpu_memory_utilization={taken:g} takes more of its memory; "
                f"leave it out, or give at most {gpus:g}"
            )
        return None

    @property
    def opening(self) -> Opening | None:
        return self._opening

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self._open)
        watch = asyncio.create_task(self._watch_opening())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # Loading cannot be interrupted, so it is undone once it has come to its end.
            opening.add_done_callback(lambda opened: opened.exception() or loop.run_in_executor(None, self._close))
            raise
        finally:
            watch.cancel()
            self._opening = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._llm is not None and self._llm.output_handler is not None:
            self._llm.output_handler.cancel()  # or it reports the end of the engine's process as an accident
        await asyncio.to_thread(self._close)

    @property
    def revision(self) -> str:
        return self._revision

    @property
    def context(self) -> int:
        return self.max_model_len

    def count(self, text: str) -> int | None:
        file = Path(self.model or "").expanduser() / "tokenizer.json"
        return len(_counting(file).encode(text, add_special_tokens=False).ids) if file.is_file() else None

    def encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return list(self._tokenizer.encode(prompt))
        if not getattr(self._tokenizer, "chat_template", True):
            raise TerminalError(f"{self.model} has no chat template; give it plain text to continue, or another model")
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
        tokens = self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return list(tokens)

    def decoder(self) -> Decoder:
        return Detokenizer(self._decode)

    async def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        self._expect_room(prompt)
        if len(said) >= min(sampling.max_tokens, self.context - len(prompt)):
            yield Piece((), "length")
            return
        llm = self._running_llm()
        self._running += 1
        try:
            async with aclosing(_outputs(llm, request or next(self._names), prompt, sampling, said)) as pieces:
                async for piece in pieces:
                    self._steps += 1
                    yield piece
        finally:
            self._running -= 1

    async def abort(self, request: str) -> None:
        await self._running_llm().abort(request)

    def pulse(self) -> Pulse:
        return Pulse(self._steps, self._running)

    async def check(self) -> None:
        llm = self._running_llm()
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await llm.check_health()
        except EngineDeadError as error:
            raise _died() from error

    def _running_llm(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineError("this engine is not open: use it as `async with Vllm(model) as engine`")
        return self._llm

    async def _watch_opening(self) -> None:
        """Look again and again how far the load is, for as long as it takes."""
        self._opening = Opening("starting vLLM")
        with contextlib.suppress(OSError):  # files that go away meanwhile are for the load itself to trip over
            weights, me = await asyncio.to_thread(Weights.of, self.model or ""), psutil.Process()
            while True:
                self._opening = after(self._opening, await asyncio.to_thread(weights.read_by, me))
                await asyncio.sleep(LOOK_EVERY_S)

    def _open(self) -> None:
        """Load the model; blocks until it can generate."""
        model = _existing(self.model)
        _set_environment(offline=Path(model).is_dir())
        from vllm import AsyncEngineArgs
        from vllm.config import StructuredOutputsConfig
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = current_platform.is_cpu()
        kv_cache_gib = self.kv_cache_gib or (KV_CACHE_ON_CPU_GIB if on_cpu else None)
        if on_cpu and kv_cache_gib:
            _expect_memory(model, kv_cache_gib)
        try:
            self._llm = AsyncLLM.from_engine_args(
                AsyncEngineArgs(
                    model=model,
                    dtype=self.dtype,
                    max_model_len=self.max_model_len,
                    max_num_seqs=self.max_num_seqs,
                    gpu_memory_utilization=self.gpu_memory_utilization or GPU_SHARE,
                    tensor_parallel_size=self.tensor_parallel,
                    # Its own processes, on the GPUs that Ray has given this one; never actors of Ray's beside it.
                    distributed_executor_backend="mp" if self.tensor_parallel > 1 else None,
                    kv_cache_memory_bytes=int(kv_cache_gib * GIB) if kv_cache_gib else None,
                    enforce_eager=on_cpu if self.enforce_eager is None else self.enforce_eager,
                    trust_remote_code=False,
                    disable_log_stats=True,
                    # A grammar that allows blank lines lets a small model spend all its tokens on them.
                    structured_outputs_config=StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True),
                )
            )
        except Exception as error:  # a broken model fails vLLM in whatever line first trips over it
            raise EngineError(_why_not(model, self.max_model_len, error)) from error
        self._tokenizer = self._llm.get_tokenizer()
        self._decode = _decode_of(self._tokenizer)
        self._revision = _revision(model, self._llm)

    def _close(self) -> None:
        """End the engine's processes; blocks until they are gone."""
        if self._llm is not None:
            self._llm.shutdown(timeout=CLOSE_S)
        self._llm = None


def after(before: Opening, read: float | None) -> Opening:
    """What vLLM does once so much of the weights was read, and it did that before.

    They are there to be read only while they are loaded; what comes then, compiling too, takes as long as it takes.
    """
    if read is not None:
        return Opening(LOADING, max(read, before.done or 0.0))
    return Opening(WARMING_UP) if before.phase == LOADING else before


async def _outputs(
    llm: AsyncLLM, request: str, prompt: Sequence[int], sampling: Sampling, said: Sequence[int]
) -> AsyncGenerator[Piece, None]:
    """What vLLM makes of a request, in our words and with our errors."""
    from vllm.exceptions import VLLMValidationError
    from vllm.inputs import tokens_input
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    asked = tokens_input([*prompt, *said])
    try:
        async with aclosing(llm.generate(asked, _sampling_params(sampling, len(said)), request)) as outputs:
            async for output in outputs:
                made = output.outputs[0]
                reason = None if made.finish_reason is None else _REASONS.get(made.finish_reason)
                if made.finish_reason and not reason:
                    raise RetryableError(f"vLLM gave a request up: {made.finish_reason}")
                if made.token_ids or reason:
                    yield Piece(tuple(made.token_ids), reason)
    except EngineDeadError as error:
        raise _died() from error
    except EngineGenerateError as error:
        raise RetryableError(f"vLLM could not go on with a request: {error.__cause__ or error}") from error
    except (VLLMValidationError, ValueError) as error:
        raise TerminalError(f"vLLM refuses this request: {error}") from error


@lru_cache(maxsize=4)
def _counting(file: Path) -> Any:
    """A tokenizer without its model, which is there in a moment."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    return tokenizer


def _decode_of(tokenizer: Any) -> Callable[[list[int]], str]:
    """How to turn ids into text without their special tokens."""
    # The tokenizer behind the tokenizer is some ten times as fast, and never tidies spaces away.
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return fast.decode if fast else partial(tokenizer.decode, skip_special_tokens=True)


def _sampling_params(sampling: Sampling, said: int) -> SamplingParams:
    """What is left to generate once `said` tokens are stored."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        max_tokens=sampling.max_tokens - said,
        min_tokens=max(0, sampling.min_tokens - said),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        # The same seed again would draw for the next tokens what was drawn for the first ones.
        seed=None if sampling.seed is None else sampling.seed + said,
        structured_outputs=None if sampling.schema is None else StructuredOutputsParams(json=sampling.schema),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _set_environment(*, offline: bool) -> None:
    """Tell vLLM, and the process that it starts, what only the environment can tell them; what an operator set stays.

    Its usage reports stay at home, and it listens on loopback. A model in a folder needs no hub, so none is asked.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _existing(model: str | None) -> str:
    """The model, unless it names a folder that is none. Raises EngineError."""
    if not model:
        raise EngineError("no model is named; give a folder with a model in it, or the name of one on the hub")
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EngineError(f"{folder} is no model: it has no config.json; name a folder that vLLM can load")
        if mistake := Weights.of(str(folder)).mistake:
            raise EngineError(f"{folder} is not whole: {mistake}, or name another model")
        return str(folder)
    if folder.exists() or model.startswith(("/", ".", "~")) or model.count("/") > 1:
        raise EngineError(f"there is no model in {folder}; name a folder with a model in it, or one on the hub")
    return model


def _expect_memory(model: str, kv_cache_gib: float) -> None:
    """Raises EngineError when the weights and the room for attention do not fit into what is free now."""
    weights = Weights.of(model).size / GIB
    free = psutil.virtual_memory().available / GIB
    if weights + kv_cache_gib > free:
        raise EngineError(
            f"{model} needs {weights + kv_cache_gib:.1f} GiB of memory and {free:.1f} GiB are free; "
            "free some, lower kv_cache_gib, or name a smaller model"
        )


def _why_not(model: str, max_model_len: int, error: Exception) -> str:
    said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    said = " ".join(said.split()).removeprefix("Value error, ") or type(error).__name__
    if "max_model_len" in said and "greater than" in said:
        return f"{model} cannot take {max_model_len:,} tokens; lower max_model_len, or name another model"
    if "Engine core initialization failed" in said:
        return (
            f"{model} could not be loaded; vLLM's log says why (if memory ran out, lower max_model_len or kv_cache_gib)"
        )
    if isinstance(error, OSError) and not Path(model).is_dir():
        return (
            f"{model} could not be had from the hub; check its name and the connection, or name a folder: {said[:300]}"
        )
    return f"{model} could not be loaded; repair it or name another model: {said[:300]}"


def _revision(model: str, llm: AsyncLLM) -> str:
    """A digest of the model; for one from the hub, its commit. The same on a GPU and on a CPU."""
    commit = getattr(llm.model_config.hf_config, "_commit_hash", None)
    return f"{model}@{commit}" if commit else digest(Path(model))


def digest(folder: Path) -> str:
    """What gives token ids their meaning, and enough of the weights to tell other ones of the same shape from them."""
    hashed = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.jinja"), *folder.glob("tokenizer.model")]):
        hashed.update(f"{file.name}\0".encode() + file.read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        hashed.update(f"{file.name}\0{file.stat().st_size}\0".encode() + _end_of(file))
    return hashed.hexdigest()[:16]


def _end_of(file: Path) -> bytes:
    with file.open("rb") as weights:
        weights.seek(max(0, file.stat().st_size - WEIGHTS_LOOKED_AT))
        return weights.read()


def _died() -> EngineError:
    return EngineError("the vLLM engine died; its log says why, and it is started again")
