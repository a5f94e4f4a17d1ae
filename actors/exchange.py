"""The messages that the stages of `analysis` exchange."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


Operator = Literal["+", "-", "*", "/"]
Number = Annotated[str, Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$")]


class Call(Message):
    """One call of a tool, as the model wrote it: a calculation with two numbers."""

    tool: Literal["calculate"] = "calculate"
    left: Number
    operator: Operator
    right: Number

    @property
    def expression(self) -> str:
        """The calculation as people write it."""
        return f"{self.left} {self.operator} {self.right}"


class ToolCalls(Message):
    """The calls that the model wants made before it answers."""

    grounded: Grounded
    calls: list[Call]


class Result(Message):
    """What a call gave: a value, or the error in words, which goes back to the model too."""

    call: Call
    value: str


class ToolResults(Message):
    """What the calls gave, on the way back to the model."""

    grounded: Grounded
    results: list[Result]


class Draft(Message):
    """What the model said, and what it had before it."""

    text: str
    passages: list[Passage]
    results: list[Result] = Field(default_factory=list)


class Answer(Message):
    """The answer: tidied text, the sources that stand behind it, the calculations made, and its length in words."""

    text: str
    sources: list[str]
    calculations: list[str]
    words: int
