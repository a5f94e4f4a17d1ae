"""What `once`, `ask`, `speak` and `report` do in a running step."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import cast

from pydantic import BaseModel, JsonValue, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_json

from actors.contracts.chain import digest
from actors.contracts.errors import NotAnswered, TerminalError
from actors.contracts.events import Progress, StepPart
from actors.contracts.fold import Part
from actors.contracts.generation import JsonSchema, Prompt, Sampling, Speech, Usage
from actors.contracts.messages import Message, Packed
from actors.pipeline.job import Answer, Speaks, Value
from actors.pipeline.pipeline import Pipeline
from actors.runtime.metered import Metered
from actors.runtime.pacing import Pace
from actors.runtime.speech import speak
from actors.runtime.writer import StepOver, StepWriter


@dataclass(frozen=True, slots=True)
class Question:
    """What a step asks, by its name in the step. `misfit` says why an earlier answer to it was none."""

    key: str
    text: str
    expects: JsonSchema
    timeout: float | None
    misfit: str | None = None


class RunningStep:
    """Keeps what a step does in the log, and gives back what an earlier attempt kept. Implements `StepLog`.

    `leave` stops the stage, because it waits for a person; then `question` is what it asks.
    """

    def __init__(
        self,
        writer: StepWriter,
        pipeline: Pipeline,
        pace: Pace,
        engine: Metered | None,
        leave: Callable[[], object],
    ) -> None:
        self.question: Question | None = None
        self._leave = leave
        self._over = asyncio.Event()
        self._writer = writer
        self._pipeline = pipeline
        self._pace = pace
        self._engine = engine
        self._spoken = False
        self._hush: Callable[[], object] | None = None
        self._hushed = False
        self._stored: dict[str, Part] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def _parts(self) -> dict[str, Part]:
        """Every stored piece of the step, of whatever attempt."""
        return {**(self._writer.state.parts if self._writer.state else {}), **self._stored}

    @property
    def usage(self) -> Usage:
        """What this step used in all: its stored pieces and waste, of whatever attempt, and what this one did."""
        stored = sum((part.usage for part in self._parts.values()), Usage(wasted_tokens=self._writer.wasted))
        return stored + (self._engine.take_usage() if self._engine else Usage())

    async def once(self, key: str, work: Callable[[], Awaitable[Value]]) -> Value:
        await self._writer.ensure_claimed()
        async with self._turns[key]:
            if part := self._parts.get(key):
                return cast("Value", self._unpack(key, part.type, part.value))
            value = await work()
            kind, packed = self._pack(key, value)
            usage = self._engine.take_usage() if self._engine else Usage()
            try:
                await self._writer.put(lambda stamp: StepPart(**stamp, key=key, value=packed, type=kind, usage=usage))
            except BaseException:
                if self._engine:
                    self._engine.note(usage)
                raise
            if self._engine:
                self._engine.keep(usage.output_tokens)
            self._stored[key] = Part(packed, kind, usage)
            return value

    async def ask(self, question: str, answer: type[Answer], key: str | None, timeout: float | None) -> Answer:
        asks = _question(question, answer, key, timeout)
        await self._writer.ensure_claimed()
        misfit: str | None = None
        if told := self._writer.told.get(asks.key):
            if told.timed_out:
                raise NotAnswered(f"nobody answered {question!r} in time")
            try:
                return TypeAdapter(answer).validate_json(to_json(told.answer))
            except ValidationError as error:
                misfit = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors()[:3])
        self.question = self.question or replace(asks, misfit=misfit)
        self._leave()
        await self._over.wait()
        raise StepOver

    def close(self) -> None:
        """The stage is over: nothing that it left running waits here any longer."""
        self._over.set()

    async def speak(self, engine: Speaks, prompt: Prompt, sampling: Sampling) -> Speech:
        if not isinstance(engine, Metered):
            raise TerminalError("job.speak needs the engine that the stage is given: declare uses=Vllm()")
        if self._spoken:
            raise TerminalError("a step speaks once: use two stages, or engine.structured inside job.once")
        self._spoken = True
        try:
            text = await speak(self._writer, self._pace, engine, prompt, sampling, begun=self._begun)
        finally:
            self._hush = None
        if self._hushed:
            raise asyncio.CancelledError
        return text

    def hush(self) -> bool:
        """Cancel the step that speaks, once all that was said is stored; False where it does not speak now."""
        if self._hush is None:
            return False
        self._hushed = True
        self._hush()
        return True

    def _begun(self, hush: Callable[[], object]) -> None:
        self._hush = hush

    async def report(self, message: str, done: int | None, total: int | None) -> None:
        stage = self._writer.handoff.stage
        async with self._pace.turn():
            await self._writer.say(
                lambda stamp: Progress(**stamp, stage=stage, message=message, done=done, total=total)
            )

    def _pack(self, key: str, value: BaseModel | JsonValue) -> tuple[str | None, JsonValue]:
        if isinstance(value, Message) and value.wire_name() in self._pipeline.messages:
            packed = Packed.of(value)
            return packed.type, packed.body
        if isinstance(value, BaseModel):
            raise TerminalError(
                f"job.once({key!r}) returned a {type(value).__name__}, which is no message of pipeline "
                f"{self._pipeline.name!r}: return one of its messages, or JSON"
            )
        return None, value

    def _unpack(self, key: str, kind: str | None, value: JsonValue) -> BaseModel | JsonValue:
        if kind is None:
            return value
        if kind not in self._pipeline.messages:
            raise TerminalError(f"job.once({key!r}) stored a {kind}, which {self._pipeline.name!r} no longer has")
        return self._pipeline.messages[kind].model_validate(value)


def _question(text: str, answer: type[object], key: str | None, timeout: float | None) -> Question:
    """Raises TerminalError when nobody could answer this."""
    if not isinstance(text, str) or not text.strip():
        raise TerminalError(f"job.ask needs a question in words, not {text!r}")
    if timeout is not None and not timeout > 0:
        raise TerminalError(
            f"job.ask({text!r}): timeout={timeout!r} must be more than 0 seconds; leave it out for none"
        )
    try:
        expects = TypeAdapter(answer).json_schema()
    except PydanticUserError as error:
        raise TerminalError(
            f"job.ask({text!r}): {answer!r} has no JSON schema to show; ask for a Message, str, bool, int or the like"
        ) from error
    return Question(key or digest(text.encode("utf-8", "surrogatepass"))[:16], text, expects, timeout)
