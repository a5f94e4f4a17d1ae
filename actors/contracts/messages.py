"""The messages that stages exchange."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """The base of everything a stage takes or gives; its wire name is its class name.

    Immutable, and strict about fields it does not know, so that a misspelled input is refused at the door.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def wire_name(cls) -> str:
        return cls.__name__


class Packed(BaseModel):
    """A message as it travels: its wire name and its body as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    body: dict[str, Any]

    @classmethod
    def of(cls, message: Message) -> Packed:
        return cls(type=message.wire_name(), body=message.model_dump(mode="json"))
