"""A wish: what a request asks for, as bytes that may be sent again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypedDict

from pydantic import BaseModel

from actors.client.errors import BadRequest
from actors.contracts.subjects import Lane, new_key

Input = Mapping[str, object] | BaseModel
"""What a pipeline takes: a message of its input type, or the JSON object of one."""


class Terms(TypedDict, total=False):
    """The terms of a job, beside its input.

    The Idempotency-Key `key` makes it the same job however often it is submitted; without one, a random key makes at
    least one call's own retries harmless. `deadline` is in whole seconds from acceptance. It begins at once, or not
    before `start_after`: so many seconds from acceptance, or a time with its timezone. `webhook` is told what
    becomes of it: a URL, or a `url` with the `events` that are wanted.
    """

    key: str | None
    lane: Lane | None
    deadline: int | None
    start_after: int | datetime | None
    metadata: Mapping[str, str] | None
    webhook: str | Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Wish:
    """The body of a request; `key` names it where the server needs that."""

    body: bytes
    key: str | None = None

    @classmethod
    def of(cls, **said: object) -> Wish:
        """What is said, less what is None. Raises BadRequest when there is no JSON for it."""
        return Wish(_json({name: value for name, value in said.items() if value is not None}))

    @classmethod
    def answering(cls, question: int, answer: object) -> Wish:
        """An answer to a question; None is one too. Raises BadRequest when there is no JSON for it."""
        return Wish(_json({"question": question, "answer": plain(answer)}))

    @classmethod
    def job(cls, input: Input, terms: Terms) -> Wish:
        """A job to be: the same bytes and the same key however often it is sent. Raises BadRequest."""
        key = terms.get("key")
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
            raise BadRequest(f"the key {key!r} cannot stand in a header; take printable ASCII without spaces around it")
        wish = Wish.of(
            input=plain(input),
            lane=terms.get("lane"),
            deadline=terms.get("deadline"),
            start_after=_start(terms.get("start_after")),
            metadata=dict(terms.get("metadata") or {}) or None,
            webhook=_hook(terms.get("webhook")),
        )
        return wish.once(key)

    def once(self, key: str | None = None) -> Wish:
        """The same under a key, or a new one, which makes a retry safe."""
        return replace(self, key=key or new_key())

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json"} | ({"Idempotency-Key": self.key} if self.key else {})


def plain(said: object) -> Any:
    """A message as its JSON, and anything else as it is."""
    if isinstance(said, BaseModel):
        return said.model_dump(mode="json")
    return dict(said) if isinstance(said, Mapping) else said


def _start(start_after: int | datetime | None) -> int | str | None:
    """Raises BadRequest when a time does not say where it is that time."""
    if not isinstance(start_after, datetime):
        return start_after
    if start_after.tzinfo is None:
        raise BadRequest(f"start_after={start_after.isoformat()} has no timezone; datetime.now(UTC) has one")
    return start_after.isoformat()


def _hook(webhook: str | Mapping[str, object] | None) -> object:
    return {"url": webhook} if isinstance(webhook, str) else plain(webhook)


def _json(said: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(said, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRequest(f"this input is not JSON: {error}") from error
