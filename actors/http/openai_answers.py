"""OpenAI's answers: a job as its clients read it, whole and event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from actors.contracts.conversation import CALLS, MOST_CALLS, Conversation, Decision, FunctionCall, Reply
from actors.contracts.envelope import Envelope
from actors.contracts.events import (
    Aborted,
    Cancelled,
    Completed,
    DeadLettered,
    Delta,
    Expired,
    Failed,
    HandOff,
    Origin,
    Outcome,
    Record,
    StepPart,
    StepStarted,
)
from actors.contracts.fold import fold_job
from actors.contracts.generation import Usage
from actors.contracts.notice import RESPONSE_ID
from actors.http.openai_errors import FAILED, envelope
from actors.http.openai_requests import Door, Echo

Json = dict[str, Any]

RESPONSE, CHAT = RESPONSE_ID, "chatcmpl-"
"""How the ids of responses and chat completions begin; the job's id follows."""

EVENTS_PER_EVENT = 16
"""The k-th event of OpenAI's that is made of event n has the sequence number 16 n + k: everywhere, every time."""

RESET = "The model was replaced by another one while it spoke: what was streamed is void. Begin the stream again."


@dataclass(frozen=True, slots=True)
class Asked:
    """The job that a request of OpenAI's made."""

    job: str
    origin: Origin
    echo: Echo

    @classmethod
    def of(cls, job: str, records: Sequence[Record], door: Door) -> Asked | None:
        """None for a job that did not come in by this door."""
        for record in records:
            if isinstance(record.event, HandOff) and record.event.message.type == Conversation.wire_name():
                try:
                    echo = Echo.model_validate(record.event.message.body.get("asked"))
                except ValidationError:
                    return None
                return cls(job, record.event.origin, echo) if echo.door == door else None
        return None

    @property
    def created(self) -> int:
        return _seconds(self.origin.created)

    @property
    def may_call(self) -> bool:
        """Whether the model decides on calls before it says anything."""
        return bool(self.echo.tools) and self.echo.tool_choice != "none"

    def call_id(self, at: int) -> str:
        """The id of a call that the model asks for; the same wherever it is told."""
        return f"call_{self.job}_{at}"


def response(asked: Asked, records: Sequence[Record]) -> Json:
    """A response as it stands."""
    state = fold_job(records)
    if state is None or state.outcome is None:
        is_running = state is not None and state.started
        status = "queued" if asked.echo.background and not is_running else "in_progress"
        return _response(asked, status, text=state.text if state else "")
    return ended(asked, state.outcome, state.text)


def ended(asked: Asked, outcome: Outcome, said: str) -> Json:
    """A response that has its outcome. What was said counts where there is no answer."""
    match outcome:
        case Completed():
            reply = reply_of(outcome)
            if reply.finish_reason == "length":
                why = {"reason": "max_output_tokens"}
                return _response(
                    asked, "incomplete", text=reply.text, outcome=outcome, incomplete_details=why, item="incomplete"
                )
            done: Json = {"completed_at": _seconds(outcome.at)}
            if reply.calls:
                done["output"] = [_call_item(asked, at, call) for at, call in enumerate(reply.calls)]
            return _response(asked, "completed", text=reply.text, outcome=outcome, item="completed", **done)
        case Cancelled():
            return _response(asked, "cancelled", text=said, outcome=outcome, item="incomplete")
    error = {"code": "server_error", "message": failure(outcome)}
    return _response(asked, "failed", text=said, outcome=outcome, item="incomplete", error=error)


def reply_of(completed: Completed) -> Reply:
    return Reply.model_validate(completed.answer.body)


def failure(outcome: Outcome) -> str:
    """Why there is no answer, in one sentence."""
    match outcome:
        case Failed(error=error):
            return f"{error.type}: {error.message}"
        case DeadLettered(reason=reason, errors=errors):
            newest = f" The last error was {errors[-1].type}: {errors[-1].message}" if errors else ""
            return f"It was tried as often as it may be: {reason}.{newest}"
        case Expired() | Aborted():
            return "Its deadline passed before it was done."
        case Cancelled(reason=reason):
            return f"It was cancelled: {reason}." if reason else "It was cancelled."
    return "It has no answer."


def _response(
    asked: Asked,
    status: str,
    *,
    text: str = "",
    item: str = "in_progress",
    outcome: Outcome | None = None,
    **more: Any,
) -> Json:
    echo = asked.echo
    return {
        "id": RESPONSE + asked.job,
        "object": "response",
        "created_at": asked.created,
        "status": status,
        "background": echo.background,
        "error": None,
        "incomplete_details": None,
        "instructions": echo.instructions,
        "max_output_tokens": echo.max_output_tokens,
        "metadata": asked.origin.metadata,
        "model": echo.model,
        "output": [_item(asked, text, item)] if text or status in ("completed", "incomplete") else [],
        "parallel_tool_calls": echo.parallel_tool_calls,
        "previous_response_id": echo.previous_response_id,
        "store": True,
        "temperature": 1.0 if echo.temperature is None else echo.temperature,
        "text": {"format": echo.format or {"type": "text"}},
        "tool_choice": echo.tool_choice,
        "tools": echo.tools,
        "top_p": 1.0 if echo.top_p is None else echo.top_p,
        "truncation": "disabled",
        "usage": _usage(outcome.usage) if outcome else None,
        **more,
    }


def _item(asked: Asked, text: str | None, status: str) -> Json:
    """The one message of a response; without text, as it is when it begins."""
    content = [] if text is None else [_part(text)]
    return {"id": f"msg_{asked.job}", "type": "message", "role": "assistant", "status": status, "content": content}


def _call_item(asked: Asked, at: int, call: FunctionCall, status: str = "completed") -> Json:
    """A call of a response; as it is when it begins, without its arguments."""
    return {
        "id": f"fc_{asked.job}_{at}",
        "type": "function_call",
        "status": status,
        "call_id": asked.call_id(at),
        "name": call.name,
        "arguments": arguments(call) if status == "completed" else "",
    }


def arguments(call: FunctionCall) -> str:
    """The arguments of a call as clients read them: JSON in a string."""
    return json.dumps(call.arguments, ensure_ascii=False)


def decision_in(event: StepPart) -> Decision | None:
    """What the model decided on calls, where this is what it stored of that."""
    if event.key != CALLS:
        return None
    try:
        return Decision.model_validate(event.value)
    except ValidationError:
        return None


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }


class ResponseStream:
    """Turns a job's events, in order and from the first on, into those of a response.

    Each event always becomes the same ones, whoever turns it and whenever. Text that is not in the log any more comes
    in one piece, from the answer. Text up to event `void_until` is void, and never shown to who has not seen it.
    """

    def __init__(self, asked: Asked, *, void_until: int = 0) -> None:
        self._asked = asked
        self._void_until = void_until
        self._said = ""
        self._begun = False
        self._speaks = False

    def take(self, n: int, event: Envelope | None) -> Iterator[Json]:
        """What an event becomes; it has the number `n`."""
        for k, kind, fields in self._turned(n, event):
            yield {"type": kind, "sequence_number": EVENTS_PER_EVENT * n + k, **fields}

    def _turned(self, n: int, event: Envelope | None) -> Iterator[tuple[int, str, Json]]:
        match event:
            case HandOff() if n == 1:
                status = "queued" if self._asked.echo.background else "in_progress"
                yield 0, "response.created", {"response": _response(self._asked, status)}
                if self._asked.echo.background:
                    yield 1, "response.queued", {"response": _response(self._asked, status)}
            case StepStarted(reset=True) if n > self._void_until and self._said:
                yield 0, "error", {"code": "text_void", "message": RESET, "param": None}
            case StepStarted() if not self._begun:
                yield from self._begin()
            case StepPart() if not self._speaks and (decision := decision_in(event)):
                yield from self._call(decision.calls) if decision.calls else self._speak(0)
            case Delta() if n > self._void_until:
                at = 0 if self._speaks else 2
                if not self._speaks:
                    yield from self._speak(0)
                self._said += event.text
                yield at, "response.output_text.delta", self._at(delta=event.text, logprobs=[])
            case Completed():
                if not self._begun:
                    yield from self._begin()
                yield from self._complete(event)
            case Cancelled():
                pass  # OpenAI has no event for it: the stream ends, and the response says so
            case Outcome():
                yield 8, "response.failed", {"response": ended(self._asked, event, self._said)}

    def _begin(self) -> Iterator[tuple[int, str, Json]]:
        self._begun = True
        yield 0, "response.in_progress", {"response": _response(self._asked, "in_progress")}
        if not self._asked.may_call:
            yield from self._speak(1)

    def _speak(self, k: int) -> Iterator[tuple[int, str, Json]]:
        """The message begins."""
        self._speaks = True
        item = _item(self._asked, None, "in_progress")
        yield k, "response.output_item.added", {"output_index": 0, "item": item}
        yield k + 1, "response.content_part.added", self._at(part=_part(""))

    def _call(self, calls: Sequence[FunctionCall]) -> Iterator[tuple[int, str, Json]]:
        """Calls that were decided on: their arguments come whole, as they are stored in one piece."""
        for at, call in enumerate(calls[:MOST_CALLS]):
            of = {"output_index": at}
            place = {**of, "item_id": f"fc_{self._asked.job}_{at}"}
            begun = _call_item(self._asked, at, call, "in_progress")
            written = arguments(call)
            yield 4 * at, "response.output_item.added", {**of, "item": begun}
            yield 4 * at + 1, "response.function_call_arguments.delta", {**place, "delta": written}
            yield (
                4 * at + 2,
                "response.function_call_arguments.done",
                {**place, "name": call.name, "arguments": written},
            )
            yield 4 * at + 3, "response.output_item.done", {**of, "item": _call_item(self._asked, at, call)}

    def _complete(self, outcome: Completed) -> Iterator[tuple[int, str, Json]]:
        whole = ended(self._asked, outcome, self._said)
        if reply_of(outcome).calls:
            yield 8, f"response.{whole['status']}", {"response": whole}
            return
        if not self._speaks:
            yield from self._speak(1)
        [item] = whole["output"]
        text: str = item["content"][0]["text"]
        if rest := _rest(text, self._said):
            yield 4, "response.output_text.delta", self._at(delta=rest, logprobs=[])
        yield 5, "response.output_text.done", self._at(text=text, logprobs=[])
        yield 6, "response.content_part.done", self._at(part=_part(text))
        yield 7, "response.output_item.done", {"output_index": 0, "item": item}
        yield 8, f"response.{whole['status']}", {"response": whole}

    def _at(self, **fields: Any) -> Json:
        return {"item_id": f"msg_{self._asked.job}", "output_index": 0, "content_index": 0, **fields}


class ChatStream:
    """Turns a job's events, in order and from the first on, into the chunks of a chat completion."""

    def __init__(self, asked: Asked, *, include_usage: bool) -> None:
        self._asked = asked
        self._include_usage = include_usage
        self._said = ""
        self._has_called = False

    def take(self, n: int, event: Envelope | None) -> Iterator[Json]:
        """What an event becomes."""
        match event:
            case HandOff() if n == 1:
                yield self._chunk({"role": "assistant", "content": ""})
            case StepStarted(reset=True) if self._said:
                yield {"error": envelope(FAILED, RESET)}
            case Delta(text=text) if text:
                self._said += text
                yield self._chunk({"content": text})
            case StepPart() if (decision := decision_in(event)) and decision.calls:
                yield from self._call(decision.calls)
            case Completed():
                reply = reply_of(event)
                if reply.calls and not self._has_called:
                    yield from self._call(reply.calls)
                if rest := _rest(reply.text, self._said):
                    yield self._chunk({"content": rest})
                yield self._chunk({}, _finish(reply))
                if self._include_usage:
                    yield {**self._head, "choices": [], "usage": _chat_usage(event.usage)}
            case Outcome():
                yield {"error": envelope(FAILED, failure(event))}

    def _call(self, calls: Sequence[FunctionCall]) -> Iterator[Json]:
        self._has_called = True
        for at, call in enumerate(calls):
            yield self._chunk({"tool_calls": [{"index": at, **_tool_call(self._asked, at, call)}]})

    @property
    def _head(self) -> Json:
        return _chat_head(self._asked, "chat.completion.chunk")

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice], **({"usage": None} if self._include_usage else {})}


def chat_completion(asked: Asked, completed: Completed) -> Json:
    """A chat completion, whole."""
    reply = reply_of(completed)
    message: Json = {"role": "assistant", "content": reply.text, "refusal": None, "annotations": []}
    if reply.calls:
        message["content"] = None
        message["tool_calls"] = [_tool_call(asked, at, call) for at, call in enumerate(reply.calls)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    head = _chat_head(asked, "chat.completion")
    return {**head, "choices": [choice], "usage": _chat_usage(completed.usage)}


def _finish(reply: Reply) -> str:
    return "tool_calls" if reply.calls else reply.finish_reason


def _tool_call(asked: Asked, at: int, call: FunctionCall) -> Json:
    function = {"name": call.name, "arguments": arguments(call)}
    return {"id": asked.call_id(at), "type": "function", "function": function}


def model(name: str) -> Json:
    """A model in the list of models."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "headrace"}


def _chat_head(asked: Asked, kind: str) -> Json:
    return {"id": CHAT + asked.job, "object": kind, "created": asked.created, "model": asked.echo.model}


def _chat_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }


def void_until(records: Sequence[Record], seen: int) -> int:
    """The number of the event by which text became void that a reader who has seen `seen` events has not seen."""
    reset = max((r.event.n for r in records if isinstance(r.event, StepStarted) and r.event.reset), default=0)
    has_seen_void = any(isinstance(r.event, Delta) and r.event.n <= seen < reset for r in records)
    return 0 if has_seen_void else reset


def _rest(whole: str, said: str) -> str:
    """What of the whole text has not been said; nothing where another text was said."""
    return whole.removeprefix(said) if whole.startswith(said) else ""


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
