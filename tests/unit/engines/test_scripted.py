from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from actors.contracts.generation import Piece, Sampling, chat
from actors.engines import EngineError, Scripted
from actors.engines.scripted import BYTES_PER_TOKEN, Cue, tokens_of


class Announced:
    """Says its text, and lets a test wait until it is asked."""

    def __init__(self, text: str) -> None:
        self.asked = asyncio.Event()
        self._text = text

    def __call__(self, prompt: str) -> str:
        self.asked.set()
        return self._text


async def say(engine: Scripted, prompt: str = "hello", *, max_tokens: int = 100, request: str = "") -> list[Piece]:
    sampling = Sampling(max_tokens=max_tokens)
    async with aclosing(engine.generate(request, engine.encode(prompt), sampling)) as pieces:
        return [piece async for piece in pieces]


def text_of(engine: Scripted, pieces: list[Piece]) -> str:
    return engine.decoder().feed([token for piece in pieces for token in piece.tokens])


@given(text=st.text(max_size=80))
def test_text_and_token_ids_go_both_ways(text: str) -> None:
    tokens = tokens_of(text)
    assert Scripted().decoder().feed(tokens) == text
    assert all(0 < token < 1 << 8 * (BYTES_PER_TOKEN + 1) for token in tokens)


def test_a_character_may_span_tokens() -> None:
    decoder = Scripted().decoder()
    assert [decoder.feed([token]) for token in tokens_of("東京")] == ["東", "京"]
    assert [token.bit_length() // 8 for token in tokens_of("東京")] == [5, 1]


async def test_it_echoes_the_last_turn_unless_it_is_told_what_to_say() -> None:
    async with Scripted() as engine:
        assert engine.decoder().feed(engine.encode(chat("What?", system="Be brief."))) == "What?"
        assert text_of(engine, await say(engine, "What?")) == "What?"
    async with Scripted(says="This.") as engine:
        assert text_of(engine, await say(engine)) == "This."
    async with Scripted(says=str.upper) as engine:
        assert text_of(engine, await say(engine, "loud")) == "LOUD"


async def test_every_token_that_was_made_is_counted_for_its_request() -> None:
    async with Scripted(says="one two six ten") as engine:
        await say(engine, max_tokens=2, request="a")
        await say(engine, request="b")
        assert engine.computed == {"a": 2, "b": 4}
        assert engine.pulse().steps == 6


async def test_a_closed_gate_holds_every_token_back() -> None:
    gate, says = asyncio.Event(), Announced("one two")
    async with Scripted(says=says, gate=gate) as engine:
        saying = asyncio.create_task(say(engine, request="held"))
        await says.asked.wait()
        assert engine.computed == {}
        gate.set()
        assert text_of(engine, await saying) == "one two"


async def test_an_abort_ends_a_request_that_waits_at_the_gate() -> None:
    says = Announced("one two")
    async with Scripted(says=says, gate=asyncio.Event()) as engine:
        saying = asyncio.create_task(say(engine, request="held"))
        await says.asked.wait()
        await engine.abort("held")
        assert await saying == [Piece((), "abort")]
        assert engine.computed == {}


async def test_an_abort_ends_a_request_that_waits_for_its_time() -> None:
    says = Announced("one two")
    async with Scripted(says=says, first_token_s=3600) as engine:
        saying = asyncio.create_task(say(engine, request="slow"))
        await says.asked.wait()
        await engine.abort("slow")
        assert await saying == [Piece((), "abort")]


async def test_no_more_than_max_num_seqs_generate_at_once() -> None:
    async with Scripted(max_num_seqs=2, cues=(Cue("hang", when="stay", times=2),)) as engine:
        first, second, third = (asyncio.create_task(say(engine, prompt)) for prompt in ("stay", "stay", "go"))
        assert (await asyncio.wait([first, second, third], timeout=0.01))[0] == set()
        first.cancel()
        assert text_of(engine, await third) == "go"
        second.cancel()


async def test_it_fails_on_cue_as_often_as_it_is_told() -> None:
    async with Scripted(says="one two three", cues=(Cue("fail", at=1, when="please", times=2),)) as engine:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="told to fail before token 1"):
                await say(engine, "please", request="r")
        assert engine.computed == {"r": 2}
        assert text_of(engine, await say(engine, "please")) == "one two three"
        assert text_of(engine, await say(engine, "other")) == "one two three"


async def test_an_engine_told_to_die_is_dead_for_everybody() -> None:
    async with Scripted(cues=(Cue("die"),)) as engine:
        await engine.check()
        with pytest.raises(EngineError, match="told to die"):
            await say(engine)
        with pytest.raises(EngineError):
            await engine.check()


async def test_a_hanging_request_makes_nothing_and_can_be_left() -> None:
    async with Scripted(says="one two", cues=(Cue("hang", at=1),)) as engine:
        pieces = engine.generate("r", engine.encode("x"), Sampling(max_tokens=2))
        await anext(pieces)
        hanging = asyncio.ensure_future(anext(pieces))
        assert await asyncio.wait([hanging], timeout=0.01) == (set(), {hanging})
        assert engine.pulse().running == 1
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert engine.pulse() == type(engine.pulse())(steps=1, running=0)


async def test_a_crash_takes_the_process_with_it() -> None:
    script = """if True:
        import asyncio
        from actors.contracts.generation import Sampling
        from actors.engines.scripted import Cue, Scripted
        async def main():
            async with Scripted(says="one two", cues=(Cue("crash", at=1),)) as engine:
                async for piece in engine.generate("r", engine.encode("x"), Sampling(max_tokens=2)):
                    print(len(piece.tokens), flush=True)
        asyncio.run(main())
    """
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    assert (said, child.returncode) == (b"1\n", -9)


class Leg(BaseModel):
    side: Literal["left", "right"]
    length: Annotated[int, Field(ge=3)]


class Animal(BaseModel):
    name: Annotated[str, Field(min_length=2)]
    legs: Annotated[list[Leg], Field(min_length=2)]
    wild: bool
    weight: float | None
    note: str = "none"


async def test_it_makes_a_smallest_valid_answer_where_a_schema_is_asked_for() -> None:
    async with Scripted() as engine:
        animal = await engine.structured("which?", Animal)
    assert animal == Animal(name="xx", legs=[Leg(side="left", length=3)] * 2, wild=False, weight=0.0)


async def test_it_answers_a_schema_as_it_is_told() -> None:
    async with Scripted(says_structured=lambda prompt: {"side": prompt, "length": 9}) as engine:
        assert await engine.structured("right", Leg) == Leg(side="right", length=9)


def test_another_model_is_another_engine_with_the_same_script() -> None:
    engine = Scripted(says="This.", token_s=0.5)
    other = engine.with_model("other")
    assert (other.says, other.token_s, other.model, engine.model) == ("This.", 0.5, "other", None)
    assert other.revision != engine.revision
