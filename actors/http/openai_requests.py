"""OpenAI's requests: what its clients ask for, and the conversation that it comes to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.contracts.chain import digest
from actors.contracts.conversation import Conversation, Said
from actors.contracts.generation import Role
from actors.contracts.subjects import Lane
from actors.http.body import json_in, malformed, misfit
from actors.http.openai_errors import unsupported
from actors.http.submission import Asked, Label, LabelValue, Submission

Door = Literal["responses", "chat"]

WITHOUT_EFFECT = {
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "parallel_tool_calls",
    "store",
    "service_tier",
}
"""What may be sent and changes nothing."""

SAME_AS_LEFT_OUT: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("auto", "none"),
    "function_call": ("auto", "none"),
    "include": ([],),
    "truncation": ("disabled",),
    "text": ({}, {"format": {"type": "text"}}, {"verbosity": "medium"}),
    "reasoning": ({},),
    "response_format": ({"type": "text"},),
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


class Part(BaseModel):
    """A piece of what somebody said."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["text", "input_text", "output_text"]
    text: str


class Item(BaseModel):
    """What somebody said."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @property
    def said(self) -> Said:
        role: Role = "system" if self.role == "developer" else self.role
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Said(role=role, content=text)


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
    metadata: Annotated[dict[Label, LabelValue], Field(max_length=16)] = Field(default_factory=dict)


class CreateResponse(Generating):
    """`POST /v1/responses`."""

    input: Annotated[str, Field(min_length=1)] | Annotated[list[Item], Field(min_length=1)]
    instructions: str | None = None
    background: bool = False
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def conversation(self) -> Conversation:
        items = [Said(role="user", content=self.input)] if isinstance(self.input, str) else [i.said for i in self.input]
        first = [Said(role="system", content=self.instructions)] if self.instructions else []
        return _conversation(self, [*first, *items], self.max_output_tokens, self.echo)

    @property
    def echo(self) -> Echo:
        return Echo(
            door="responses",
            model=self.model,
            background=self.background,
            instructions=self.instructions,
            temperature=self.temperature,
            top_p=self.top_p,
            max_output_tokens=self.max_output_tokens,
        )


class CreateChat(Generating):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Item], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]
        | None
    ) = None

    @property
    def conversation(self) -> Conversation:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        most = self.max_completion_tokens or self.max_tokens
        said = [item.said for item in self.messages]
        echo = Echo(door="chat", model=self.model)
        return _conversation(self, said, most, echo).model_copy(update={"seed": self.seed, "stop": stop})


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


def asked_of(pipeline: str, request: CreateResponse | CreateChat, body: bytes | bytearray) -> Asked:
    """The submission that a request comes to. Another request under the same key is another body, as it was sent."""
    conversation = request.conversation
    whole = {"pipeline": pipeline, "door": conversation.asked["door"], "input": json_in(body)}
    try:
        fingerprint = digest(json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
    except ValueError:
        raise malformed("a number in it is too large to be kept") from None
    lane: Lane = "standard" if conversation.asked["background"] else "interactive"
    submission = Submission(input=conversation, lane=lane, metadata=request.metadata)
    return Asked(submission, fingerprint, len(body))


def _conversation(request: Generating, said: list[Said], most: int | None, echo: Echo) -> Conversation:
    if request.ignore_eos and most is None:
        raise unsupported("ignore_eos", "Say how many tokens there are to be, too.")
    return Conversation(
        messages=said,
        max_tokens=most,
        min_tokens=most or 0 if request.ignore_eos else 0,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        asked=echo.model_dump(mode="json"),
    )


def _refuse_what_has_no_effect(given: Mapping[str, Any], known: Set[str]) -> None:
    for name, value in given.items():
        if name not in known and name not in WITHOUT_EFFECT and value not in SAME_AS_LEFT_OUT.get(name, ()):
            raise unsupported(name)
