"""OpenAI's errors: how a request is refused, in the words of its API."""

from __future__ import annotations

import json

from pydantic import JsonValue
from starlette.responses import Response

from actors.http.problem import INVALID, Kind, Refusal

UNSUPPORTED = Kind("unsupported-parameter", 400, "This is not supported here")
INVALID_VALUE = Kind("invalid-value", 400, "A value does not fit")
CONTEXT_EXCEEDED = Kind("context-length-exceeded", 400, "It is more than the model takes")
MODEL_NOT_FOUND = Kind("model-not-found", 404, "There is no such model")
RESPONSE_NOT_FOUND = Kind("response-not-found", 404, "There is no such response")
NOT_IN_BACKGROUND = Kind("not-in-background", 400, "Only responses in the background are cancelled")
NOT_ENDED = Kind("not-ended", 409, "The response has not ended yet")
TOO_SLOW = Kind("too-slow", 504, "It is not done yet")
FAILED = Kind("server-error", 500, "It could not be generated")


def answer(refusal: Refusal) -> Response:
    """A refusal as OpenAI's clients read it: 400 for all that does not fit, and `param` names the first of it."""
    kind = INVALID_VALUE if refusal.kind == INVALID else refusal.kind
    headers = dict(refusal.headers or {})
    if kind in (TOO_SLOW, FAILED):
        headers["X-Should-Retry"] = "false"  # the same again would be another job
    told = {"error": envelope(kind, _message(refusal), param=_param(refusal))}
    return Response(json.dumps(told), kind.status, headers, "application/json")


def envelope(kind: Kind, message: str, *, param: str | None = None) -> dict[str, JsonValue]:
    """What stands under `error`."""
    return {"message": message, "type": _type(kind), "param": param, "code": kind.name.replace("-", "_")}


def unsupported(param: str, why: str = "Leave it out.") -> Refusal:
    return Refusal(UNSUPPORTED, f"`{param}` is not supported here, or not with this value. {why}", param=param)


def unknown_response(id: str, param: str = "response_id") -> Refusal:
    return Refusal(RESPONSE_NOT_FOUND, f"There is no response {id[:64]!r}, or it is not kept any more.", param=param)


def _type(kind: Kind) -> str:
    if kind.status == 429:
        return "rate_limit_error"
    return "server_error" if kind.status >= 500 else "invalid_request_error"


def _faults(refusal: Refusal) -> list[tuple[str, str]]:
    found = refusal.more.get("errors")
    faults = [fault for fault in found if isinstance(fault, dict)] if isinstance(found, list) else []
    return [(str(fault["pointer"]).removeprefix("#/"), str(fault["detail"])) for fault in faults]


def _message(refusal: Refusal) -> str:
    told = [f"{place.replace('/', '.')}: {what}." for place, what in _faults(refusal)[:3]]
    return " ".join([*told, refusal.detail])


def _param(refusal: Refusal) -> str | None:
    if named := refusal.more.get("param"):
        return str(named)
    faults = _faults(refusal)
    return faults[0][0].partition("/")[0] if faults else None
