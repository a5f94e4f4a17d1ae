"""The envelope that every message in the log wears."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

VERSION = 1
"""The wire version written here. A removed or retyped field makes a new one; an added optional field does not."""


def _from_wire(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return datetime.fromtimestamp(value, UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from error


Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_from_wire),
    PlainSerializer(lambda at: round(at.timestamp(), 6), return_type=float, when_used="json"),
]
"""A point in time; on the wire, seconds since 1970 in UTC with microseconds."""


class Envelope(BaseModel):
    """What is true of every message: its version, its place in the job, its kind, its writer and its time.

    `n` is the job's event number: 1, 2, 3 … without a hole, because a job has one chain and one writer at a time.
    `by` names the writer: `<worker>/<claim>`, `ingress/<request>`, `events/<name>`, `clock/<name>`, or a person.
    Unknown fields are ignored, so version N reads what version N+1 wrote.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    v: int = VERSION
    n: int
    kind: str
    by: str
    at: Instant

    def encode(self) -> bytes:
        """The bytes that are stored; digests are taken over exactly these."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Fact(Envelope):
    """A message that is kept and audited; `prev` is the digest of the job's fact before it, empty for the first."""

    prev: str = ""
