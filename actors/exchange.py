"""The messages that the stages of `analysis` exchange."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from actors.contracts.messages import Message


class Question(Message):
    """What somebody wants to know."""

    text: Annotated[str, Field(min_length=1, max_length=4_000, description="The question, in plain words.")]


class Passage(Message):
    """A piece of a document that bears on the question."""

    source: str
    text: str


class Grounded(Message):
    """The question with the passages that were found for it."""

    question: str
    passages: list[Passage]


class Call(Message):
    """One call of a tool, as the model wrote it."""

    tool: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.tool}({', '.join(map(str, self.arguments.values()))})"


class Result(Message):
    """What a call gave: a value, or in words why it has none, which the model is told too."""

    call: Call
    value: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.call} failed: {self.value}" if self.failed else f"{self.call} = {self.value}"


class ToolCalls(Message):
    """The calls that the model wants made at once, in its `turn` of calling tools, from 1, and all results before.

    With `more` it wants to call others once it knows what these give.
    """

    grounded: Grounded
    turn: Annotated[int, Field(ge=1)]
    calls: Annotated[list[Call], Field(max_length=8)]
    more: bool = False
    results: list[Result] = Field(default_factory=list)


class ToolResults(Message):
    """What all the calls so far gave, on the way back to the model.

    It is asked for further ones where there is `more`: it said so, or a call of the newest turn failed.
    """

    grounded: Grounded
    turn: int
    more: bool = False
    results: list[Result]


class Draft(Message):
    """What the model said, and what it had before it."""

    text: str
    passages: list[Passage]
    results: list[Result] = Field(default_factory=list)


class Answer(Message):
    """The answer: tidied text, the sources that stand behind it, the calls of tools, and its length in words."""

    text: str
    sources: list[str]
    calls: list[str]
    words: int
