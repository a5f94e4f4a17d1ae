"""The capability `call_tools`: what the model may have done for it."""

from __future__ import annotations

from simpleeval import InvalidExpression, SimpleEval

from actors.exchange import Call, Result, ToolCalls, ToolResults
from actors.pipeline import Job, stage


@stage(concurrency=16)
async def call_tools(calls: ToolCalls, job: Job) -> ToolResults:
    """Make every call; one that cannot be made is answered with its error, and the model goes on."""
    return ToolResults(grounded=calls.grounded, results=[Result(call=c, value=calculate(c)) for c in calls.calls])


def calculate(call: Call) -> str:
    """The value of an arithmetic expression, or in words why it has none."""
    try:
        value = SimpleEval(functions={}, names={}).eval(call.expression)
    except (InvalidExpression, SyntaxError, TypeError, ValueError, ArithmeticError) as error:
        return f"cannot be calculated: {error}"
    return f"{value:g}" if isinstance(value, float) else str(value)
