"""What an engine makes of what was written under a schema."""

from __future__ import annotations

from pydantic import BaseModel

from actors.contracts.generation import Prompt, Sampling, Speech
from actors.engines import Scripted


class Verdict(BaseModel):
    good: bool
    why: str


class Careless(Scripted):
    """Writes raw control characters into a string, as grammars of bounded length let it."""

    async def whole(self, prompt: Prompt, sampling: Sampling) -> Speech:
        return Speech('{"good":true,"why":"a\x0b b\x1f"}', "stop")


async def test_raw_control_characters_in_a_string_are_spaces() -> None:
    async with Careless() as engine:
        assert await engine.structured("?", Verdict) == Verdict(good=True, why="a  b ")
