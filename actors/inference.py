"""The capability `write`: the language model, which asks for tools or answers."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import JsonValue, create_model

from actors.contracts.generation import Prompt, chat
from actors.contracts.retry import Retry
from actors.engines import Engine, Vllm
from actors.exchange import Call, Draft, Grounded, Operator, Result, ToolCalls, ToolResults
from actors.pipeline import Job, stage

ANSWER_TOKENS = 100
CHOICE_TOKENS = 64

WRITE_THE_SUM = "Answer with the calculation, for example 3 * 20 for 'What is 3 times 20?'"


@stage(gpus=1, cpus=0.5, uses=Vllm(), concurrency=64, retry=Retry(attempts=3))
async def write(prompt: Grounded | ToolResults, job: Job, engine: Engine) -> ToolCalls | Draft:
    """Ask for a calculation where the question has one to make; else answer aloud."""
    if isinstance(prompt, Grounded) and len(numbers := numbers_in(prompt.question)) > 1:
        call = await job.once("call", lambda: _choose(prompt.question, numbers, engine))
        return ToolCalls(grounded=prompt, calls=[Call.model_validate(call)])
    grounded = prompt.grounded if isinstance(prompt, ToolResults) else prompt
    results = prompt.results if isinstance(prompt, ToolResults) else []
    text = await job.speak(engine, _ground(grounded, results), max_tokens=ANSWER_TOKENS)
    return Draft(text=text, passages=grounded.passages, results=results)


def numbers_in(question: str) -> tuple[str, ...]:
    """The numbers of a question, each once. The calculator is offered only where there are two at least."""
    return tuple(dict.fromkeys(re.findall(r"\d{1,12}(?:\.\d{1,6})?", question)))


async def _choose(question: str, numbers: tuple[str, ...], engine: Engine) -> JsonValue:
    """Decide in silence. The grammar allows the question's own numbers only: a small model's call is always valid."""
    number = Literal[numbers]  # type: ignore[valid-type]  # known only when the question is
    choice = create_model("Choice", left=(number, ...), operator=(Operator, ...), right=(number, ...))
    written = await engine.structured(chat(question, system=WRITE_THE_SUM), choice, max_tokens=CHOICE_TOKENS)
    return written.model_dump(mode="json")


def _ground(grounded: Grounded, results: list[Result]) -> Prompt:
    """The question after what there is to know about it, calculations first."""
    known = [f"{r.call.expression} = {r.value}" for r in results] + [p.text for p in grounded.passages]
    text = "\n".join(known) or "(nothing was found)"
    return chat(f"Read this text:\n\n{text}\n\nNow answer in two sentences: {grounded.question}")
