"""The messages of pipelines that chat: a conversation goes in, a reply comes out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from actors.contracts.generation import Prompt, Role, Turn
from actors.contracts.messages import Message


class Said(Message):
    """What somebody said."""

    role: Role
    content: str


class Conversation(Message):
    """What was said so far, and how the next turn is generated. Without `max_tokens` the model's context is the limit.

    A pipeline that takes this and gives a Reply is one that OpenAI's clients can call.
    """

    messages: Annotated[list[Said], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] = 0
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] = Field(default_factory=list)
    asked: dict[str, JsonValue] = Field(
        default_factory=dict, description="What the door that it came through answers with again; no stage reads it."
    )

    @property
    def prompt(self) -> Prompt:
        """What the model is given."""
        return tuple(Turn(said.role, said.content) for said in self.messages)


class Reply(Message):
    """The next turn, which is all that the pipeline said aloud; and why it ended: by itself, or for want of room."""

    text: str
    finish_reason: Literal["stop", "length"]
