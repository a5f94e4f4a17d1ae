"""What every engine promises, asked of each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Literal

import psutil
import pytest
import pytest_asyncio
from pydantic import BaseModel

from actors.contracts.errors import RetryableError, TerminalError
from actors.contracts.generation import Piece, Sampling, chat
from actors.engines import Engine, EngineError, Scripted, Vllm
from actors.engines.scripted import Cue
from tests.tiny_model import CONTEXT, save_tiny_model

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

LONG = "one two three four five six seven eight nine ten, then 東京, Größe and naïve, " * 20
DEADLY = "say nothing more"


class Leg(BaseModel):
    side: Literal["left", "right"]


class Animal(BaseModel):
    wild: bool
    legs: list[Leg]


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["scripted", pytest.param("vllm", marks=pytest.mark.vllm)]
)
async def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    made: Engine
    if request.param == "scripted":
        made = Scripted(says=LONG, token_s=0.001, cues=(Cue("die", at=3, when=DEADLY),))
    else:
        folder = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
        # In single precision, as then a continuation equals what would have been said in one go.
        made = Vllm(str(folder), max_model_len=CONTEXT, max_num_seqs=8, dtype="float32", kv_cache_gib=0.25)
    async with made as opened:
        yield opened


async def pieces_of(
    engine: Engine, prompt: str, sampling: Sampling, *, request: str = "", said: tuple[int, ...] = ()
) -> list[Piece]:
    async with aclosing(engine.generate(request, engine.encode(prompt), sampling, said=said)) as pieces:
        return [piece async for piece in pieces]


def tokens_in(pieces: list[Piece]) -> tuple[int, ...]:
    return tuple(token for piece in pieces for token in piece.tokens)


def exactly(count: int) -> Sampling:
    return Sampling(max_tokens=count, min_tokens=count)


async def test_pieces_carry_new_token_ids_and_the_last_one_says_why_it_ended(engine: Engine) -> None:
    pieces = await pieces_of(engine, "count", exactly(20))
    assert len(tokens_in(pieces)) == 20
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert all(piece.tokens for piece in pieces)


async def test_the_same_greedy_request_gives_the_same_tokens(engine: Engine) -> None:
    first, again = [tokens_in(await pieces_of(engine, "count", exactly(20))) for _ in range(2)]
    assert first == again


async def test_a_resume_goes_on_where_the_stored_tokens_end_and_repeats_none(engine: Engine) -> None:
    whole = tokens_in(await pieces_of(engine, "count", exactly(24)))
    for cut in (1, 7, 16, 23):
        rest = await pieces_of(engine, "count", exactly(24), said=whole[:cut])
        assert whole[:cut] + tokens_in(rest) == whole
        assert rest[-1].finish_reason == "length"


async def test_a_resume_of_a_whole_generation_makes_nothing(engine: Engine) -> None:
    whole = tokens_in(await pieces_of(engine, "count", exactly(8)))
    steps = engine.pulse().steps
    assert await pieces_of(engine, "count", exactly(8), said=whole) == [Piece((), "length")]
    assert engine.pulse().steps == steps


async def test_a_decoder_that_is_fed_the_stored_ids_goes_on_as_if_nothing_had_happened(engine: Engine) -> None:
    tokens = engine.encode(LONG)
    whole = engine.decoder().feed(tokens)
    assert whole == LONG
    for cut in range(120):
        decoder = engine.decoder()
        assert decoder.feed(tokens[:cut]) + "".join(decoder.feed([token]) for token in tokens[cut:]) == whole


async def test_an_abort_ends_the_stream_after_at_most_one_more_step(engine: Engine) -> None:
    made = 0
    async with aclosing(engine.generate("stop-me", engine.encode("count"), exactly(400))) as pieces:
        async for piece in pieces:
            made += len(piece.tokens)
            if made == len(piece.tokens):
                await engine.abort("stop-me")
            last = piece
    assert last.finish_reason == "abort"
    assert made < 400
    assert engine.pulse().running == 0


async def test_an_abort_of_an_unknown_request_is_fine(engine: Engine) -> None:
    await engine.abort("never-heard-of")


async def test_closing_the_iterator_aborts_the_request(engine: Engine) -> None:
    pieces = engine.generate("walk-away", engine.encode("count"), exactly(400))
    await anext(pieces)
    assert engine.pulse().running == 1
    await pieces.aclose()
    assert engine.pulse().running == 0
    steps = engine.pulse().steps
    await pieces_of(engine, "count", exactly(4))
    assert engine.pulse().steps - steps <= 4


async def test_a_cancelled_reader_leaves_nothing_running(engine: Engine) -> None:
    began = asyncio.Event()

    async def read() -> None:
        async with aclosing(engine.generate("cancelled", engine.encode("count"), exactly(400))) as pieces:
            async for _ in pieces:
                began.set()

    reader = asyncio.create_task(read())
    await began.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert engine.pulse().running == 0


async def test_requests_at_once_are_kept_apart(engine: Engine) -> None:
    alone = [tokens_in(await pieces_of(engine, f"count to {n}", exactly(5 + n))) for n in range(12)]
    at_once = await asyncio.gather(
        *(pieces_of(engine, f"count to {n}", exactly(5 + n), request=f"request-{n}") for n in range(12))
    )
    assert [tokens_in(pieces) for pieces in at_once] == alone


async def test_a_structured_answer_is_valid_and_ends_by_itself(engine: Engine) -> None:
    assert isinstance(await engine.structured(chat("which animal?"), Leg), Leg)
    sampling = Sampling(max_tokens=64, schema=Leg.model_json_schema())
    assert (await pieces_of(engine, "which leg?", sampling))[-1].finish_reason == "stop"


async def test_structured_answers_at_once_need_no_names(engine: Engine) -> None:
    answers = await asyncio.gather(*(engine.structured("which leg?", Leg) for _ in range(4)))
    assert all(answer.side in ("left", "right") for answer in answers)


async def test_a_structured_answer_that_is_cut_short_can_be_tried_again(engine: Engine) -> None:
    with pytest.raises(RetryableError, match="max_tokens"):
        await engine.structured("which animal?", Animal, max_tokens=1)


async def test_a_prompt_that_leaves_no_room_is_refused_for_good(engine: Engine) -> None:
    with pytest.raises(TerminalError, match="tokens"):
        await anext(engine.generate("", [engine.encode("a")[0]] * engine.context, exactly(4)))


async def test_a_conversation_goes_through_the_models_template(engine: Engine) -> None:
    assert engine.encode(chat("hello"))
    assert engine.encode(chat("hello")) != engine.encode(chat("goodbye"))


async def test_an_engine_says_which_model_it_is_and_how_much_it_takes(engine: Engine) -> None:
    assert engine.revision == engine.revision != ""
    assert engine.context >= CONTEXT


async def test_the_pulse_grows_with_every_piece(engine: Engine) -> None:
    before = engine.pulse().steps
    pieces = await pieces_of(engine, "count", exactly(10))
    assert engine.pulse().steps - before == len(pieces)


async def test_a_healthy_engine_passes_its_check(engine: Engine) -> None:
    await engine.check()


async def test_an_engine_that_dies_says_so_to_everybody(engine: Engine) -> None:
    """The last test of each engine, as none comes back from it."""
    with pytest.raises(EngineError):
        await _killed_while_it_speaks(engine)
    with pytest.raises(EngineError):
        await engine.check()
    with pytest.raises(EngineError):
        await pieces_of(engine, "count", exactly(4))


async def _killed_while_it_speaks(engine: Engine) -> None:
    """A scripted engine has its cue; of vLLM, the process that its model runs in is killed."""
    async with aclosing(engine.generate("last", engine.encode(DEADLY), exactly(400))) as pieces:
        async for _ in pieces:
            if isinstance(engine, Vllm):
                for child in psutil.Process().children(recursive=True):
                    if "EngineCore" in "".join(child.cmdline()):
                        child.kill()
