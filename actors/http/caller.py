"""The caller: on whose behalf a request is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from starlette.requests import HTTPConnection

from actors.contracts.subjects import EVERY_TENANT, LOCAL, Subject
from actors.journal import Reader

_SCOPE = "headrace.caller"


class Owned(NamedTuple):
    """A job, and whose it is."""

    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose jobs a request may make and see; an operator may see everybody's."""

    tenant: str
    is_operator: bool = False

    @property
    def tenants(self) -> str:
        """Whose dead letters and jobs are listed, as a token of a subject."""
        return EVERY_TENANT if self.is_operator else self.tenant

    async def owner(self, reader: Reader, job: str) -> str:
        """Whose job this is, as far as this caller may know; the caller's own if there is no such job.

        Raises Unanswered.
        """
        if self.is_operator and (last := await reader.last(EVERY_TENANT, job)):
            return Subject.parse(last.subject).tenant
        return self.tenant


def caller_of(request: HTTPConnection) -> Caller:
    """Who was let in at the door with this request: the one place that a request's tenant comes from."""
    caller: Caller = request.scope.get(_SCOPE, Caller(LOCAL))
    return caller
