"""What every engine promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

from pydantic import BaseModel, ValidationError

from actors.contracts.errors import HeadraceError, RetryableError, TerminalError
from actors.contracts.generation import FinishReason, Piece, Prompt, Sampling, Speech

M = TypeVar("M", bound=BaseModel)


class EngineError(HeadraceError):
    """The engine cannot work: it did not start, it died, or it hangs. The message says why and what to do."""


def as_json(written: str) -> str:
    """What was written under a schema, as JSON: strings of a bounded length may have raw control characters in them."""
    return "".join(c if c >= " " else " " for c in written)  # seen of xgrammar 0.2, with maxLength


class Decoder(Protocol):
    """Turns token ids into text, piece by piece.

    A pure function of the ids seen so far: fed the stored ids again after a crash, it goes on as if there had been
    none, also in the middle of a UTF-8 sequence. Text of an unfinished sequence is held back until it is whole.
    """

    def feed(self, tokens: Sequence[int]) -> str:
        """The text that these next tokens complete."""
        ...


@dataclass(frozen=True, slots=True)
class Pulse:
    """Signs of life: `steps` grows whenever the engine made a token for anyone; `running` requests are unfinished."""

    steps: int
    running: int


@dataclass(frozen=True, slots=True)
class Opening:
    """What an engine does while it is opened, and how far it is with that, from 0 to 1; None where nobody can tell."""

    phase: str
    done: float | None = None

    def __str__(self) -> str:
        return self.phase if self.done is None else f"{self.phase}, {100 * self.done:.0f} %"


class Engine(ABC):
    """A language model that generates.

    Used as an async context manager, opened once per replica: entering loads the model and returns when it can
    generate, or raises EngineError. Stages call `structured`, and `job.speak(engine, …)`; the worker calls the rest.
    """

    model: str | None
    """Which model: a folder or a hub name; None takes what the installation is set to."""

    @abstractmethod
    def with_model(self, model: str) -> Self:
        """The same engine, not yet opened, for this model."""

    def on(self, gpus: float) -> Self:
        """The same engine, not yet opened, for a replica that has so many GPUs, a part of one, or none."""
        return self

    def mistake_on(self, gpus: float) -> str | None:
        """Why it cannot be declared with so many GPUs, and what to change; None when it can."""
        return None

    @property
    def opening(self) -> Opening | None:
        """What it does while it is opened, as far as it can tell; None before, after, and when it says nothing."""
        return None

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    @abstractmethod
    def revision(self) -> str:
        """Changes whenever the same token ids could mean something else: what was stored under another one is void."""

    @property
    @abstractmethod
    def context(self) -> int:
        """The most tokens that prompt and output may have together."""

    def count(self, text: str) -> int | None:
        """How many tokens plain text has, also before it is opened; None where that is not known. It may take long."""
        return None

    @abstractmethod
    def encode(self, prompt: Prompt) -> list[int]:
        """The token ids of a prompt; a conversation goes through the model's own template."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A fresh decoder for one generation."""

    @abstractmethod
    def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        """Generate after `prompt` and the already stored output tokens `said`; give pieces as they are made.

        `sampling` counts the whole generation, so at most `max_tokens - len(said)` tokens come. The last piece carries
        `finish_reason`. Stop strings are not the engine's business: `sampling.stop` is ignored here. Closing the
        iterator aborts the request. An empty `request` is given a name of its own. Raises EngineError when the engine
        dies, TerminalError when it cannot take this request (its prompt leaves no room, say).
        """

    @abstractmethod
    async def abort(self, request: str) -> None:
        """Stop a request; the engine works at most one more step for it. Unknown requests are fine."""

    @abstractmethod
    def pulse(self) -> Pulse:
        """Signs of life, without asking the engine anything that could block."""

    @abstractmethod
    async def check(self) -> None:
        """Raises EngineError when the engine is dead."""

    async def structured(
        self, prompt: Prompt, returns: type[M], *, max_tokens: int = 128, temperature: float = 0.0
    ) -> M:
        """Generate in silence a JSON object of the type `returns`; the grammar is enforced while decoding.

        Raises RetryableError when `max_tokens` ran out before the object was whole.
        """
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, schema=returns.model_json_schema())
        try:
            return returns.model_validate_json(as_json(await self.whole(prompt, sampling)))
        except ValidationError as error:
            raise RetryableError(
                f"the model's {returns.__name__} is not whole after {max_tokens} tokens; raise max_tokens: {error}"
            ) from error

    async def whole(self, prompt: Prompt, sampling: Sampling) -> Speech:
        """Generate in silence; the whole text, which knows why it ended. Stop strings are not looked for."""
        reason: FinishReason = "abort"
        decoder, text = self.decoder(), ""
        async for piece in self.generate("", self.encode(prompt), sampling):
            text += decoder.feed(piece.tokens)
            reason = piece.finish_reason or reason
        return Speech(text, reason)

    def _expect_room(self, prompt: Sequence[int]) -> None:
        """Raises TerminalError when a prompt leaves no room for an output."""
        if len(prompt) >= self.context:
            raise TerminalError(
                f"the prompt has {len(prompt):,} tokens; the model takes {self.context:,} with its output: shorten it"
            )
