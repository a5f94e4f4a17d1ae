"""The job as a stage sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, overload

from pydantic import BaseModel, JsonValue

from actors.contracts.generation import Prompt, Sampling, Speech
from actors.contracts.subjects import LOCAL, Lane

Value = TypeVar("Value", bound=BaseModel | JsonValue)
Answer = TypeVar("Answer")


class Speaks(Protocol):
    """What `job.speak` can generate with: an engine, as the worker hands it to the stage."""

    def encode(self, prompt: Prompt) -> list[int]:
        """The token ids of a prompt."""
        ...


class StepLog(Protocol):
    """Where a running step keeps what it did. Every method's effect is durable when it returns."""

    async def once(self, key: str, work: Callable[[], Awaitable[Value]]) -> Value: ...

    async def ask(self, question: str, answer: type[Answer], key: str | None, timeout: float | None) -> Answer: ...

    async def speak(self, engine: Speaks, prompt: Prompt, sampling: Sampling) -> Speech: ...

    async def report(self, message: str, done: int | None, total: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One request's way through a pipeline, as one attempt of one step sees it.

    `attempt` counts from 1. `deadline` is when the job must have its outcome; the worker stops the step then.
    """

    id: str
    pipeline: str
    attempt: int
    deadline: datetime
    log: StepLog
    tenant: str = LOCAL
    lane: Lane = "standard"
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    async def once(self, key: str, work: Callable[[], Awaitable[Value]]) -> Value:
        """Do `work` once in the life of this step, and give what it returned on every later attempt.

        `key` names it within the step. What it returns must be JSON, or a message of the pipeline. A crash while it
        works, or before its result is stored, does it again; after that never.
        """
        return await self.log.once(key, work)

    @overload
    async def ask(self, question: str, *, key: str | None = None, timeout: float | None = None) -> str: ...

    @overload
    async def ask(
        self, question: str, answer: type[Answer], *, key: str | None = None, timeout: float | None = None
    ) -> Answer: ...

    async def ask(
        self, question: str, answer: type[Any] = str, *, key: str | None = None, timeout: float | None = None
    ) -> Any:
        """Ask a person, and give the answer, of the type `answer`.

        The stage ends here; when somebody has answered, it starts again from its beginning, and this returns. Until
        then the job takes up no worker and no place, for days if need be, up to its deadline. What must not be done
        again before the question belongs into `once`. The same question is asked once in the life of the step; one that
        is worded anew each time, or asked more than once, has a `key` to be known by. Of several questions that are
        asked at the same time the first goes first. After `timeout` seconds without an answer it raises NotAnswered.
        """
        return await self.log.ask(question, answer, key, timeout)

    async def speak(
        self,
        engine: Speaks,
        prompt: Prompt,
        *,
        max_tokens: int = 256,
        min_tokens: int = 0,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: tuple[str, ...] = (),
    ) -> Speech:
        """Generate aloud: readers see the text as it is made, and a crash goes on where the stored text ends.

        At most once per step. Returns the whole text, which knows why it ended (`finish_reason`). Limits count tokens
        of the whole generation.
        """
        sampling = Sampling(
            max_tokens=max_tokens, min_tokens=min_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=stop
        )
        return await self.log.speak(engine, prompt, sampling)

    async def report(self, message: str, *, done: int | None = None, total: int | None = None) -> None:
        """Tell readers what this step is doing, for example `await job.report("passages", done=3, total=5)`."""
        await self.log.report(message, done, total)
