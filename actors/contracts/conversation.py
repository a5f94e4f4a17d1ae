"""The messages of pipelines that chat: a conversation goes in, a reply comes out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from actors.contracts.generation import Prompt, Role, Turn
from actors.contracts.messages import Message

CALLS, TEXT = "calls", "text"
"""The names of the pieces in which a step that answers a conversation keeps what it decides in silence."""

MOST_CALLS = 4
"""How many functions may be asked for at once: a reader's events of one decision are numbered within sixteen."""


class Said(Message):
    """What somebody said."""

    role: Role
    content: str


class Function(Message):
    """Something that whoever asks can do for the model; `parameters` is the JSON schema of its arguments."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class FunctionCall(Message):
    """A call that the model wants made."""

    name: str
    arguments: dict[str, JsonValue]


class Conversation(Message):
    """What was said so far, and how the next turn is generated. Without `max_tokens` the model's context is the limit.

    The model may, or with `must_call` has to, ask for up to `most_calls` of the `functions` instead of answering. With
    `returns`, a JSON schema, its answer is JSON that fits it.

    A pipeline that takes this and gives a Reply is one that OpenAI's clients can call.
    """

    messages: Annotated[list[Said], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] = 0
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] = Field(default_factory=list)
    functions: list[Function] = Field(default_factory=list)
    must_call: bool = False
    most_calls: Annotated[int, Field(ge=1, le=MOST_CALLS)] = MOST_CALLS
    returns: dict[str, JsonValue] | None = None
    asked: dict[str, JsonValue] = Field(
        default_factory=dict, description="What the door that it came through answers with again; no stage reads it."
    )

    @property
    def prompt(self) -> Prompt:
        """What the model is given."""
        return tuple(Turn(said.role, said.content) for said in self.messages)


class Decision(Message):
    """Which functions the model wants called, none where it answers by itself; `length` when it ran out of tokens.

    It is what a step stores under `CALLS`, and by which readers hear of the calls before there is an outcome.
    """

    calls: list[FunctionCall] = Field(default_factory=list)
    finish_reason: Literal["stop", "length"] = "stop"


class Reply(Message):
    """The next turn, which is all that the pipeline said aloud; and why it ended: by itself, or for want of room.

    Instead of text it may be calls; then the next turn of the other side is what they gave.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    calls: list[FunctionCall] = Field(default_factory=list)
