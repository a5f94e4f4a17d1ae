"""An engine that says what it is told, at a set pace: for tests and benchmarks without a model."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import itertools
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from actors.contracts.generation import Piece, Prompt, Sampling
from actors.engines.protocol import Decoder, Engine, EngineError, Pulse

BYTES_PER_TOKEN = 5


def tokens_of(text: str) -> list[int]:
    """Text as token ids: up to five bytes of its UTF-8 each, led by a one, so that ids and bytes go both ways."""
    tokens: list[int] = []
    for word in _words(text.encode()):
        chunks = (word[at : at + BYTES_PER_TOKEN] for at in range(0, len(word), BYTES_PER_TOKEN))
        tokens += [int.from_bytes(b"\x01" + chunk) for chunk in chunks]
    return tokens


def _words(data: bytes) -> list[bytes]:
    """Pieces that each begin with their spaces, as language models' vocabularies have them."""
    words: list[bytes] = []
    begin = 0
    for at in range(1, len(data)):
        if data[at] == 0x20 and data[at - 1] != 0x20:
            words.append(data[begin:at])
            begin = at
    return [*words, data[begin:]] if data else []


class _Bytes:
    """Decodes token ids; bytes of an unfinished character wait for the next token."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, tokens: Sequence[int]) -> str:
        return "".join(self._decoder.decode(token.to_bytes((token.bit_length() + 7) // 8)[1:]) for token in tokens)


def _echo(prompt: str) -> str:
    return prompt


@dataclass(frozen=True, slots=True)
class Cue:
    """Something that goes wrong on cue: before the token `at` of a generation whose prompt contains `when`.

    `fail` raises an ordinary error, `die` an EngineError for everybody, `hang` never goes on, and `crash` kills the
    process with SIGKILL. It happens at most `times` times in the life of the engine.
    """

    what: str
    at: int = 0
    when: str = ""
    times: int = 1


@dataclass
class Scripted(Engine):
    """Says `says` (a text, or a function from the prompt's text to one), token by token.

    The first token comes after `first_token_s` seconds, the next ones every `token_s`, kept to a schedule so that
    delays do not add up. At most `max_num_seqs` requests generate at once; others wait. `says_structured` is what it
    answers where a JSON schema is asked for. With a `gate`, no token comes before the gate is set.
    """

    says: str | Callable[[str], str] = _echo
    first_token_s: float = 0.0
    token_s: float = 0.0
    max_num_seqs: int = 64
    says_structured: Callable[[str], dict[str, Any]] | None = None
    cues: tuple[Cue, ...] = ()
    gate: asyncio.Event | None = None
    model: str | None = None
    takes: int = 1_000_000
    """The most tokens that prompt and output may have together."""

    computed: dict[str, int] = field(default_factory=dict)
    """Tokens made for each request, thrown-away ones included."""

    def __post_init__(self) -> None:
        self._steps = 0
        self._running: dict[str, asyncio.Event] = {}
        self._names = itertools.count()
        self._dead = ""
        self._played: dict[Cue, int] = {}

    def with_model(self, model: str) -> Self:
        return replace(self, model=model)

    async def __aenter__(self) -> Self:
        self._slots = asyncio.Semaphore(self.max_num_seqs)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def revision(self) -> str:
        return f"scripted/{self.model or 'default'}"

    @property
    def context(self) -> int:
        return self.takes

    def count(self, text: str) -> int | None:
        return len(tokens_of(text))

    def encode(self, prompt: Prompt) -> list[int]:
        return tokens_of(_text_of(prompt))

    def decoder(self) -> Decoder:
        return _Bytes()

    async def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        self._expect_room(prompt)
        asked = _Bytes().feed(prompt)
        tokens = tokens_of(self._script(asked, sampling))
        end = min(len(tokens), sampling.max_tokens)
        request = request or f"unnamed-{next(self._names)}"
        aborted = self._running[request] = asyncio.Event()
        try:
            async with self._slots:
                due = asyncio.get_running_loop().time() + self.first_token_s
                if len(said) >= end:
                    yield Piece((), "stop" if len(said) >= len(tokens) else "length")
                for at in range(len(said), end):
                    await self._play(asked, at)
                    await self._wait_until(due, aborted)
                    if aborted.is_set():
                        yield Piece((), "abort")
                        return
                    self._steps += 1
                    self.computed[request] = self.computed.get(request, 0) + 1
                    last = at == end - 1
                    yield Piece((tokens[at],), ("stop" if end == len(tokens) else "length") if last else None)
                    due += self.token_s
        finally:
            del self._running[request]

    async def abort(self, request: str) -> None:
        if request in self._running:
            self._running[request].set()

    def pulse(self) -> Pulse:
        return Pulse(self._steps, len(self._running))

    async def check(self) -> None:
        if self._dead:
            raise EngineError(self._dead)

    def _script(self, asked: str, sampling: Sampling) -> str:
        if sampling.schema is not None:
            if self.says_structured is None:
                return json.dumps(_smallest(sampling.schema, sampling.schema))
            return json.dumps(self.says_structured(asked))
        return self.says if isinstance(self.says, str) else self.says(asked)

    async def _wait_until(self, due: float, aborted: asyncio.Event) -> None:
        """Wait for the gate and for the time, unless the request is aborted meanwhile."""
        if self.gate is not None and not self.gate.is_set():
            waiting = [asyncio.ensure_future(event.wait()) for event in (self.gate, aborted)]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waiting:
                    wait.cancel()
        if due > asyncio.get_running_loop().time():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await aborted.wait()
        else:
            await asyncio.sleep(0)
        await self.check()

    async def _play(self, asked: str, at: int) -> None:
        for cue in self.cues:
            if cue.at == at and cue.when in asked and self._played.get(cue, 0) < cue.times:
                self._played[cue] = self._played.get(cue, 0) + 1
                match cue.what:
                    case "fail":
                        raise RuntimeError(f"told to fail before token {at}")
                    case "die":
                        self._dead = f"told to die before token {at}"
                    case "hang":
                        await asyncio.Event().wait()
                    case "crash":
                        os.kill(os.getpid(), signal.SIGKILL)


def _text_of(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1].content


def _smallest(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A smallest value that a JSON schema of ours allows."""
    if "$ref" in schema:
        return _smallest(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "default" in schema:
        return schema["default"]
    if options := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return options[0]
    if any_of := schema.get("anyOf"):
        return _smallest(any_of[0], root)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: _smallest(properties[name], root) for name in schema.get("required", ())}
        case "array":
            return [_smallest(schema["items"], root) for _ in range(schema.get("minItems", 0))]
        case "string":
            return "x" * schema.get("minLength", 0)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
    return None
