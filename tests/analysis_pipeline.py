"""The pipeline `analysis` with the scripted engine for a model, and with a tool whose effects can be counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from actors import CallKey, Pipeline, tool
from actors.engines import Scripted
from actors.exchange import Call, Grounded, Passage, Result, ToolCalls, ToolResults
from actors.inference import write as real_write
from actors.postprocess import polish
from actors.retrieval import retrieve
from actors.toolbox import Toolbox
from actors.tools import calculator
from actors.tools import call_tools as real_call_tools

QUESTION = "What is a tailrace, and what is 7 times 45?"
ANSWER = "A tailrace carries the water away. It is 315."
PRODUCT = Call(tool="calculator", arguments={"expression": "7 * 45"})
QUOTIENT = Call(tool="calculator", arguments={"expression": "45 / 7"})

GROUNDED = Grounded(
    question=QUESTION, passages=[Passage(source="mills/tailrace", text="A tailrace carries water away.")]
)
RESULTS = ToolResults(grounded=GROUNDED, turn=1, results=[Result(call=PRODUCT, value="315")])


def chooses(asked: str) -> dict[str, Any]:
    """What the model wants called: two things at once."""
    return {"calls": [PRODUCT.model_dump(), QUOTIENT.model_dump()], "then": "answer"}


model = Scripted(says=ANSWER, says_structured=chooses)


@tool
def ring(bell: str, key: CallKey) -> str:
    """Ring a bell: a line in the file of that name, with the call's key."""
    with Path(bell).open("a") as file:
        file.write(f"{key}\n")
    return "it rang"


def rings(bell: Path, times: int) -> ToolCalls:
    """As many calls of one turn, which differ in how the file is named."""
    names = [f"{bell.parent}{'/.' * n}/{bell.name}" for n in range(times)]
    calls = [Call(tool="ring", arguments={"bell": name}) for name in names]
    return ToolCalls(grounded=GROUNDED, turn=1, calls=calls)


write = replace(real_write, uses=model)
call_tools = replace(real_call_tools, uses=Toolbox(calculator, ring))

analysis = Pipeline("analysis", retrieve, write, call_tools, polish)

PATHS = ("tests.analysis_pipeline:analysis",)
