"""What is asked of a language model, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Role
    content: str


Prompt = str | tuple[Turn, ...]
"""Plain text to continue, or a conversation that the model's own template turns into tokens."""


def chat(user: str, *, system: str = "") -> Prompt:
    """The shortest conversation: an optional system turn and one user turn."""
    turns = (Turn("system", system),) if system else ()
    return (*turns, Turn("user", user))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate. `max_tokens` and `min_tokens` count the whole generation's output, stored tokens included."""

    max_tokens: int = 256
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: dict[str, JsonValue] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise ValueError(
                f"min_tokens is {self.min_tokens}; it must lie between 0 and max_tokens ({self.max_tokens})"
            )
        if any(not s for s in self.stop):
            raise ValueError("a stop string is empty; leave it out")


@dataclass(frozen=True, slots=True)
class Piece:
    """What an engine produced since its last piece: token ids, and why it ended if it did."""

    tokens: tuple[int, ...]
    finish_reason: FinishReason | None = None


class Usage(BaseModel):
    """Tokens a job has used so far. `wasted_tokens` were computed but not stored (a crash, a cancel), counted apart."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt_tokens: int = 0
    output_tokens: int = 0
    wasted_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            wasted_tokens=self.wasted_tokens + other.wasted_tokens,
        )


JsonSchema = dict[str, Any]
