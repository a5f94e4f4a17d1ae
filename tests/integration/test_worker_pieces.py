"""What a step keeps on its way, and goes on from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from actors import Job, Message, Retry
from actors.contracts.events import Completed, Delta, HandOff, StepPart, StepStarted
from actors.contracts.generation import Piece, Sampling
from actors.engines import Engine, Scripted
from actors.engines.scripted import tokens_of
from actors.runtime.writer import Pen
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office, starts
from tests.thinking import SPEECH, TOKENS, Draft, Question, analysis
from tests.trouble import LosesAnswers
from tests.verify import kinds, said
from tests.workers import a_hand


@R1
async def test_once_stores_and_is_not_done_again(servers: Servers, office: Office) -> None:
    done: list[str] = []

    async def pieces(question: Question, job: Job, engine: Engine) -> Draft:
        async def work(key: str) -> Any:
            done.append(key)
            return {"list": [1, None, {"deep": "x"}], "none": None, "draft": Draft(text="kept")}[key]

        found = [await job.once(key, lambda key=key: work(key)) for key in ("list", "none", "draft", "list")]  # type: ignore[misc]
        if job.attempt == 1:
            raise RuntimeError("after the pieces")
        return Draft(text=repr(found))

    pipeline, writing, polishing = analysis(writes=pieces)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Question()))
    assert done == ["list", "none", "draft"]
    assert kinds(records).count("step.part") == 3
    given = next(r.event for r in records if isinstance(r.event, HandOff) and r.event.stage == "polish")
    expected = [[1, None, {"deep": "x"}], None, Draft(text="kept"), [1, None, {"deep": "x"}]]
    assert given.message.body == {"text": repr(expected)}


@R1
async def test_pieces_done_in_parallel_are_each_stored_once_and_counted_once(servers: Servers, office: Office) -> None:
    async def tools(question: Question, job: Job, engine: Engine) -> Draft:
        async def think(n: int) -> str:
            made = await engine.structured(f"tool {n}", Thought)
            return made.text

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job.once(f"tool {n}", lambda n=n: think(n))) for n in range(5)]  # type: ignore[misc]
        return Draft(text=" ".join(task.result() for task in tasks))

    engine = Scripted(says_structured=lambda prompt: {"text": prompt})
    pipeline, writing, polishing = analysis(engine, writes=tools)

    def deaf(pen: Pen) -> Pen:
        return replace(pen, appender=LosesAnswers(pen.appender))

    async with a_hand(servers, pipeline, writing, pen=deaf), a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Question()))
    assert kinds(records).count("step.part") == 5
    parts = [r.event for r in records if isinstance(r.event, StepPart)]
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == {"text": "TOOL 0 TOOL 1 TOOL 2 TOOL 3 TOOL 4"}
    assert answer.usage.output_tokens == engine.pulse().steps
    assert sum(part.usage.output_tokens for part in parts) == engine.pulse().steps


class Thought(Message):
    text: str


@R1
async def test_a_step_given_out_again_goes_on_with_its_budget_and_its_text(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(engine, retry=Retry(attempts=1, crashes=3))
    job = await office.post(pipeline, Question())
    tokens = tokens_of(SPEECH)
    gone: dict[str, Any] = {"stage": "write", "worker": "write-gone", "ack": "$JS.ACK.gone", "model": engine.revision}
    await job.write(StepStarted, attempt=1, claim="gone", **gone)
    text = SPEECH[: SPEECH.index(" feeds")]
    await job.write(
        Delta, by="write-gone/gone", stage="write", text=text, tokens=tuple(tokens[: len(tokens_of(text))]), from_=0
    )
    await job.write(StepPart, key="k", value=1)
    await job.hand_off("write", Question(), of=1)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    begun = starts(records)
    assert [start.from_ for start in begun] == [0, len(tokens_of(text))]
    assert begun[1].attempt == 2
    assert said(records, "write") == SPEECH
    assert engine.pulse().steps == TOKENS - len(tokens_of(text))


@R1
async def test_a_changed_model_begins_again_and_says_so(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH, model="newer")
    pipeline, writing, polishing = analysis(engine)
    job = await office.post(pipeline, Question())
    gone: dict[str, Any] = {"stage": "write", "worker": "write-gone", "ack": "$JS.ACK.gone", "model": "scripted/older"}
    await job.write(StepStarted, attempt=1, claim="gone", **gone)
    await job.write(Delta, by="write-gone/gone", stage="write", text="Another", tokens=(1, 2), from_=0)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        await office.journal.pulls.send("$JS.ACK.gone", b"")
        records = await office.outcome(job)
    begun = starts(records)[1]
    assert (begun.reset, begun.from_, begun.model) == (True, 0, "scripted/newer")
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == {"text": SPEECH.upper()}
    assert answer.usage.output_tokens == TOKENS


@R1
async def test_a_resume_that_finds_the_end_of_the_text_calls_no_engine(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(engine)
    job = await office.post(pipeline, Question())
    gone: dict[str, Any] = {"stage": "write", "worker": "write-gone", "ack": "$JS.ACK.gone", "model": engine.revision}
    await job.write(StepStarted, attempt=1, claim="gone", **gone)
    whole: dict[str, Any] = {"text": SPEECH, "tokens": tuple(tokens_of(SPEECH)), "from_": 0, "finish_reason": "stop"}
    await job.write(Delta, by="write-gone/gone", stage="write", **whole)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert engine.pulse().steps == 0
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == {"text": SPEECH.upper()}


class Listening(Scripted):
    """Keeps the token ids that it is to go on from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.heard: list[tuple[int, ...]] = []

    async def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        self.heard.append(tuple(said))
        async for piece in super().generate(request, prompt, sampling, said=said):
            yield piece


@R1
async def test_a_resume_gives_the_engine_the_stored_token_ids_and_never_text(servers: Servers, office: Office) -> None:
    """The same text may be made of other tokens, and those are not what the model has said."""
    engine = Listening(says=SPEECH)
    pipeline, writing, _ = analysis(engine)
    job = await office.post(pipeline, Question())
    gone: dict[str, Any] = {"stage": "write", "worker": "write-gone", "ack": "$JS.ACK.gone", "model": engine.revision}
    await job.write(StepStarted, attempt=1, claim="gone", **gone)
    letters = tuple(token for letter in "The" for token in tokens_of(letter))
    assert letters != tuple(tokens_of("The"))
    await job.write(Delta, by="write-gone/gone", stage="write", text="The", tokens=letters, from_=0)
    async with a_hand(servers, pipeline, writing):
        await office.until_kind(job, "handoff", times=2)
    assert engine.heard == [letters]
