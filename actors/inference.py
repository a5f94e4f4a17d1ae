"""The capability `write`: the language model, which asks for tools or answers."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, JsonValue

from actors.contracts.generation import Prompt, chat
from actors.contracts.messages import Message
from actors.contracts.retry import Retry
from actors.engines import Engine, Vllm
from actors.exchange import Call, Draft, Grounded, ToolCalls, ToolResults
from actors.pipeline import Job, stage

ANSWER_TOKENS = 120
CHOICE_TOKENS = 64

BE_BRIEF = "You answer in one short paragraph, from the given facts only."
WRITE_THE_SUM = "You turn a question into one arithmetic expression, with digits and + - * / only."


class Choice(Message):
    """What the model decides before it speaks; the grammar allows nothing else."""

    calls: Annotated[list[Call], Field(min_length=1, max_length=1)]


@stage(gpus=1, cpus=0.5, uses=Vllm(), concurrency=64, retry=Retry(attempts=3))
async def write(prompt: Grounded | ToolResults, job: Job, engine: Engine) -> ToolCalls | Draft:
    """Ask for a calculation where the question has one to make; else answer aloud."""
    if isinstance(prompt, Grounded) and _asks_for_a_sum(prompt.question):
        calls = await job.once("calls", lambda: _choose(prompt, engine))
        return ToolCalls(grounded=prompt, calls=[Call.model_validate(call) for call in calls])
    grounded = prompt.grounded if isinstance(prompt, ToolResults) else prompt
    results = prompt.results if isinstance(prompt, ToolResults) else []
    text = await job.speak(engine, _ground(grounded, prompt), max_tokens=ANSWER_TOKENS)
    return Draft(text=text, passages=grounded.passages, results=results)


async def _choose(prompt: Grounded, engine: Engine) -> list[JsonValue]:
    """Decide in silence: structured output keeps a small model's calls valid."""
    choice = await engine.structured(chat(prompt.question, system=WRITE_THE_SUM), Choice, max_tokens=CHOICE_TOKENS)
    return [call.model_dump(mode="json") for call in choice.calls]


def _asks_for_a_sum(question: str) -> bool:
    """Two numbers at least: the calculator is offered only where there is something to calculate."""
    return len(re.findall(r"\d+(?:\.\d+)?", question)) > 1


def _ground(grounded: Grounded, prompt: Grounded | ToolResults) -> Prompt:
    facts = [p.text for p in grounded.passages]
    if isinstance(prompt, ToolResults):
        facts += [f"{r.call.expression} = {r.value}" for r in prompt.results]
    listed = "\n".join(f"- {fact}" for fact in facts) or "- (nothing was found)"
    return chat(f"Facts:\n{listed}\n\nQuestion: {grounded.question}", system=BE_BRIEF)
