"""OpenAI's requests: what its clients ask for, and the conversation that it comes to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from actors.contracts.chain import digest
from actors.contracts.conversation import Conversation, Said
from actors.contracts.subjects import Lane
from actors.http.body import json_in, malformed, misfit
from actors.http.openai_errors import unsupported
from actors.http.openai_items import MOST_ITEMS, AnyItem, AnyMessage, Item, turns
from actors.http.openai_tools import (
    MOST_TOOLS,
    ChatFormat,
    ChatTool,
    Choice,
    ChosenName,
    OneChatTool,
    OneTool,
    PlainFormat,
    TextOptions,
    Tool,
    offered,
    schema_of,
)
from actors.http.submission import Asked, Label, LabelValue, Submission

Door = Literal["responses", "chat"]

WITHOUT_EFFECT = {
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "store",
    "service_tier",
}
"""What may be sent and changes nothing."""

SAME_AS_LEFT_OUT: Mapping[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("auto", "none"),
    "include": ([],),
    "truncation": ("disabled",),
    "reasoning": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
}
"""What may be sent with these values only, because they ask for nothing."""

M = TypeVar("M", bound="Generating")


class StreamOptions(BaseModel):
    """How a stream is told."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    include_usage: bool = False


class Generating(BaseModel):
    """What both of OpenAI's ways of asking for text have; and vLLM's `ignore_eos`, with which its benchmark asks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Annotated[str, Field(max_length=512)]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    ignore_eos: bool = False
    parallel_tool_calls: bool = True
    metadata: Annotated[dict[Label, LabelValue], Field(max_length=16)] = Field(default_factory=dict)


class CreateResponse(Generating):
    """`POST /v1/responses`."""

    input: Annotated[str, Field(min_length=1)] | Annotated[list[AnyItem], Field(min_length=1, max_length=MOST_ITEMS)]
    instructions: str | None = None
    background: bool = False
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    previous_response_id: Annotated[str, Field(max_length=64)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] = Field(default_factory=list)
    tool_choice: Choice | OneTool = "auto"
    text: TextOptions = TextOptions()

    def conversation(self, before: Before) -> Conversation:
        """What it comes to after what was said before. Raises Refusal."""
        items = [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        first = [Said(role="system", content=self.instructions)] if self.instructions else []
        said = [*first, *before.said, *turns(items, dict(before.names))]
        choice, chosen = _chosen(self.tool_choice)
        more = offered(self.tools, choice, chosen, parallel=self.parallel_tool_calls)
        more["returns"] = schema_of(self.text.format, "text")
        return _conversation(self, said, self.max_output_tokens, self.echo, more)

    @property
    def echo(self) -> Echo:
        choice = self.tool_choice
        return Echo(
            door="responses",
            model=self.model,
            background=self.background,
            instructions=self.instructions,
            temperature=self.temperature,
            top_p=self.top_p,
            max_output_tokens=self.max_output_tokens,
            previous_response_id=self.previous_response_id,
            tools=[tool.model_dump() | {"strict": True} for tool in self.tools],
            tool_choice=choice if isinstance(choice, str) else choice.model_dump(),
            parallel_tool_calls=self.parallel_tool_calls,
            format=self.text.format.model_dump(by_alias=True),
        )


class CreateChat(Generating):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[AnyMessage], Field(min_length=1, max_length=MOST_ITEMS)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]
        | None
    ) = None
    tools: Annotated[list[ChatTool], Field(max_length=MOST_TOOLS)] = Field(default_factory=list)
    tool_choice: Choice | OneChatTool = "auto"
    response_format: ChatFormat = PlainFormat(type="text")

    def conversation(self, before: Before) -> Conversation:
        """What it comes to; a chat says itself what was said before. Raises Refusal."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        most = self.max_completion_tokens or self.max_tokens
        said = turns(self.messages, dict(before.names))
        choice, chosen = _chosen(self.tool_choice)
        more = offered([tool.function for tool in self.tools], choice, chosen, parallel=self.parallel_tool_calls)
        more |= {"returns": schema_of(self.response_format, "response_format"), "seed": self.seed, "stop": stop}
        # Whoever turns the job's events into chunks has to know whether it may be calls that come.
        tools: list[dict[str, JsonValue]] = [{"type": "function", "name": tool.function.name} for tool in self.tools]
        return _conversation(self, said, most, Echo(door="chat", model=self.model, tools=tools), more)


class Echo(BaseModel):
    """What a job keeps of the request that made it, to be said again in every answer about it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    door: Door
    model: str
    background: bool = False
    instructions: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    tools: list[dict[str, JsonValue]] = Field(default_factory=list)
    tool_choice: JsonValue = "auto"
    parallel_tool_calls: bool = True
    format: dict[str, JsonValue] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Before:
    """What was said before the items of a request, and which functions were called in it, by the ids of the calls."""

    said: Sequence[Said] = ()
    names: Mapping[str, str] = field(default_factory=dict)


NOTHING = Before()


def read_request(model: type[M], body: bytes | bytearray) -> M:
    """What a client asks for. Raises Refusal, also for what would be passed over otherwise."""
    said = json_in(body)
    given = {name: value for name, value in said.items() if value is not None} if isinstance(said, dict) else said
    try:
        asked = model.model_validate(given)
    except ValidationError as error:
        raise misfit(error, "Correct it.") from None
    _refuse_what_has_no_effect(given, model.model_fields.keys())
    return asked


def asked_of(
    pipeline: str, request: CreateResponse | CreateChat, body: bytes | bytearray, before: Before = NOTHING
) -> tuple[Asked, Conversation]:
    """The submission that a request comes to, and what is said in it. Another body, as it was sent, is another request.

    Raises Refusal.
    """
    conversation = request.conversation(before)
    whole = {"pipeline": pipeline, "door": conversation.asked["door"], "input": json_in(body)}
    try:
        fingerprint = digest(json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
    except ValueError:
        raise malformed("a number in it is too large to be kept") from None
    lane: Lane = "standard" if conversation.asked["background"] else "interactive"
    submission = Submission(input=conversation, lane=lane, metadata=request.metadata)
    return Asked(submission, fingerprint, len(body), str(conversation.asked["door"])), conversation


def _conversation(
    request: Generating, said: list[Said], most: int | None, echo: Echo, more: dict[str, Any]
) -> Conversation:
    if request.ignore_eos and most is None:
        raise unsupported("ignore_eos", "Say how many tokens there are to be, too.")
    return Conversation(
        messages=said,
        max_tokens=most,
        min_tokens=most or 0 if request.ignore_eos else 0,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        asked=echo.model_dump(mode="json"),
        **more,
    )


def _chosen(choice: Choice | OneTool | OneChatTool) -> tuple[str | None, str | None]:
    """A choice in a word, or of one function by its name."""
    match choice:
        case OneTool(name=name) | OneChatTool(function=ChosenName(name=name)):
            return None, name
        case word:
            return word, None


def _refuse_what_has_no_effect(given: Mapping[str, Any], known: Set[str]) -> None:
    for name, value in given.items():
        if name not in known and name not in WITHOUT_EFFECT and value not in SAME_AS_LEFT_OUT.get(name, ()):
            raise unsupported(name)
