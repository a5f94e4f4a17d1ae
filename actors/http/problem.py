"""A problem: how a request is refused, in the words of RFC 9457."""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from fastapi.exceptions import RequestValidationError
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from actors.contracts.errors import HeadraceError
from actors.journal import Unanswered, Undecided
from actors.journal.connection import ApiError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
"""What a client is asked to wait at least; connections come back within tenths of a second of their server."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to refuse: the name is for programs and never changes, the title is for people."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """The URI that RFC 9457 identifies it by."""
        return f"urn:headrace:problem:{self.name}"


MALFORMED = Kind("malformed", 400, "The body is not JSON")
BAD_KEY = Kind("bad-key", 400, "The Idempotency-Key cannot be used")
BAD_PLACE = Kind("bad-place", 400, "This is no place in a stream of events")
BAD_OPTION = Kind("bad-option", 400, "This option does not take that value")
INVALID_KEY = Kind("invalid-api-key", 401, "A key is needed")
OPERATORS_ONLY = Kind("operators-only", 403, "Only operators may do this")
READ_ONLY = Kind("read-only", 403, "A session only reads")
FOREIGN_SITE = Kind("foreign-site", 403, "Another site may not ask here")
NOT_FOUND = Kind("not-found", 404, "There is nothing at this path")
UNKNOWN_PIPELINE = Kind("unknown-pipeline", 404, "There is no such pipeline")
BAD_PAGE = Kind("bad-page", 400, "This is no page of a list")
UNKNOWN_DEAD_LETTER = Kind("unknown-dead-letter", 404, "There is no such dead letter")
UNKNOWN_JOB = Kind("unknown-job", 404, "There is no such job")
UNKNOWN_WEBHOOK = Kind("unknown-webhook", 404, "There is no such webhook")
UNKNOWN_DELIVERY = Kind("unknown-delivery", 404, "There is no such delivery")
BAD_METHOD = Kind("bad-method", 405, "This path does not take that method")
TOO_SLOW = Kind("too-slow", 408, "The request did not arrive in time")
NOT_ASKED = Kind("not-asked", 409, "The job does not ask that")
ANSWERED_OTHERWISE = Kind("answered-otherwise", 409, "The question was settled otherwise")
DISCARDED = Kind("discarded", 409, "The dead letter was discarded")
NOT_REDRIVABLE = Kind("not-redrivable", 409, "Nothing here takes the dead letter")
REDRIVEN_OTHERWISE = Kind("redriven-otherwise", 409, "The dead letter was redriven otherwise")
DISABLED = Kind("disabled", 409, "The webhook is disabled")
TOO_MANY_WEBHOOKS = Kind("too-many-webhooks", 409, "The tenant has all the webhooks that it may have")
TOO_LARGE = Kind("too-large", 413, "The request is too large")
TOO_LONG = Kind("too-long", 414, "The address is too long")
BAD_MEDIA_TYPE = Kind("bad-media-type", 415, "The body must be JSON")
INVALID = Kind("invalid", 422, "The request does not fit")
KEY_REUSED = Kind("key-reused", 422, "The Idempotency-Key belongs to another request")
BACKLOG = Kind("backlog", 429, "Too many jobs wait")
QUOTA = Kind("quota", 429, "The tenant's limit is reached")
TOO_MANY_HEADERS = Kind("too-many-headers", 431, "The headers are too large")
UNEXPECTED = Kind("unexpected", 500, "Something went wrong here")
UNAVAILABLE = Kind("unavailable", 503, "The log of jobs cannot be reached")
FULL = Kind("full", 503, "The log of jobs is nearly full")

KINDS = tuple(kind for kind in list(globals().values()) if isinstance(kind, Kind))


class Refusal(HeadraceError):
    """Raised while a request is handled: this is its answer. `detail` says what to do; `more` stands beside it."""

    def __init__(self, kind: Kind, detail: str, *, headers: Mapping[str, str] | None = None, **more: JsonValue) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.more = more

    def answer(self) -> Response:
        kind = self.kind
        told = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": self.detail, **self.more}
        return Response(json.dumps(told), kind.status, self.headers, MEDIA_TYPE)


def unavailable(error: Exception, detail: str = "Send the same request again.", **more: JsonValue) -> Refusal:
    """The server of the log cannot be reached, or did not answer; waiting helps."""
    log.warning("a request found no log", extra={"action": "log_unavailable", "reason": str(error)})
    return Refusal(UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_S)}, **more)


def unknown_job(job: str) -> Refusal:
    return Refusal(
        UNKNOWN_JOB,
        f"There is no job {job[:64]!r}, or it is not kept any more. A job's id is in the answer to its submission: "
        "26 small letters and digits.",
    )


def unknown_dead_letter(job: str) -> Refusal:
    return Refusal(
        UNKNOWN_DEAD_LETTER,
        f"There is no dead letter {job[:64]!r}: no such job is kept, or it did not use up its budget.",
    )


def answer_with_problems(app: Starlette) -> None:
    """Let every refusal of this application be a problem: ours, Starlette's own, and what nobody expected."""
    answer_refusals(app, Refusal.answer)


def answer_refusals(app: Starlette, say: Callable[[Refusal], Response]) -> None:
    """Let everything that goes wrong in this application be a Refusal, answered in these words."""
    for error, understood in (
        (Refusal, _refused),
        (HTTPException, _http),
        (RequestValidationError, _invalid),
        (Unanswered, _unanswered),
        (Undecided, _unanswered),
        (ApiError, _unanswered),
    ):
        app.add_exception_handler(error, _answering(understood, say))
    app.add_exception_handler(ClientDisconnect, _gone)
    # Not as a handler of the application: Starlette would raise the error on, and the server would print its message.
    app.add_middleware(ExceptionMiddleware, handlers={Exception: _answering(_unexpected, say)})


def _answering(
    understood: Callable[[Request, Exception], Refusal], say: Callable[[Refusal], Response]
) -> Callable[[Request, Exception], Response]:
    return lambda request, error: say(understood(request, error))


def _refused(_: Request, error: Exception) -> Refusal:
    return cast(Refusal, error)


def _http(request: Request, error: Exception) -> Refusal:
    refused = cast(HTTPException, error)
    match refused.status_code:
        case 404:
            return Refusal(NOT_FOUND, "Look at /openapi.json for the paths that there are.")
        case 405:
            allowed = (refused.headers or {}).get("Allow", "another method")
            return Refusal(BAD_METHOD, f"Use {allowed}, not {request.method}.", headers=refused.headers)
    kind = Kind("http", refused.status_code, http.HTTPStatus(refused.status_code).phrase)
    return Refusal(kind, str(refused.detail), headers=refused.headers)


def _invalid(_: Request, error: Exception) -> Refusal:
    found = cast(RequestValidationError, error).errors()
    return Refusal(INVALID, "Correct what `errors` names.", errors=[fault(e["loc"], e["msg"]) for e in found])


def fault(place: tuple[int | str, ...], what: str) -> JsonValue:
    """One of several things wrong with a body: where, as a JSON pointer, and what."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in place)
    return {"pointer": "".join(("#", *(f"/{step}" for step in steps)))[:200], "detail": what[:500]}


def _unanswered(_: Request, error: Exception) -> Refusal:
    return unavailable(error)


def _gone(_: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def _unexpected(request: Request, error: Exception) -> Refusal:
    """Says nothing about the error to the client, and nothing of the request to the log: only where it happened."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno} {trace.tb_frame.f_code.co_name}")
        trace = trace.tb_next
    log.error(
        "a request failed",
        extra={"action": "request_broken", "error": type(error).__name__, "path": request.url.path, "at": places[-5:]},
    )
    return Refusal(
        UNEXPECTED, "It is in the server's log, and it is not your fault. Trying again may help; telling us will."
    )
