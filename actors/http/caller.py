"""The caller: on whose behalf a request is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from starlette.requests import HTTPConnection
from starlette.types import Scope

from actors.contracts.subjects import EVERY_TENANT, Subject
from actors.http.problem import OPERATORS_ONLY, READ_ONLY, Refusal
from actors.journal import Reader

_PLACE = "headrace.caller"


class Owned(NamedTuple):
    """A job, and whose it is."""

    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose jobs a request may make and see; an operator sees everybody's. `key` is the id of the key it came with.

    Who came with a session, which the owner of the key began, only reads.
    """

    tenant: str
    is_operator: bool = False
    key: str = ""
    only_reads: bool = False

    @property
    def tenants(self) -> str:
        """Whose dead letters are listed, as a token of a subject."""
        return EVERY_TENANT if self.is_operator else self.tenant

    async def owner(self, reader: Reader, job: str) -> str:
        """Whose job this is, as far as this caller may know; the caller's own if there is no such job.

        Where nobody needs a key there is one tenant. Raises Unanswered.
        """
        if self.is_operator and self.key and (last := await reader.last(EVERY_TENANT, job)):
            return Subject.parse(last.subject).tenant
        return self.tenant

    def must_do_more_than_read(self) -> None:
        """Raises Refusal for whoever came with a session."""
        if self.only_reads:
            raise Refusal(READ_ONLY, "A session only reads, and this cancels. Ask with the key, or leave it out.")

    def must_operate(self) -> None:
        """Raises Refusal for everybody who is no operator."""
        if not self.is_operator:
            raise Refusal(
                OPERATORS_ONLY, "It shows everybody's work. Ask with a key made by `headrace keys create --operator`."
            )


def caller_of(request: HTTPConnection) -> Caller:
    """Who was let in at the door with this request: the one place that a request's tenant comes from."""
    caller: Caller = request.scope[_PLACE]
    return caller


def let_in(scope: Scope, caller: Caller) -> Scope:
    """The request, as this caller's."""
    return {**scope, _PLACE: caller}
