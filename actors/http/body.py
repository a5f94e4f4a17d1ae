"""The body of a request, read within limits: this is what a client sends."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from actors.http.problem import BAD_MEDIA_TYPE, INVALID, MALFORMED, TOO_LARGE, TOO_SLOW, Refusal, fault

M = TypeVar("M", bound=BaseModel)

MAX_BODY = 1 << 20
BODY_S = 30.0
"""How long a body may take to arrive, in seconds: who sends it a byte at a time holds a connection all the while."""

MAX_FAULTS = 20
"""How many faults of one body are named."""

FAULTS_LOOKED_AT = 1_000
"""Listing the faults of a body that has more would take the memory of many bodies."""


async def body_of(request: Request, *, optional: bool = False) -> bytearray:
    """The body of a request, if it is said to be JSON and not too large; no more than that is ever held.

    An `optional` one that is empty need not be said to be anything. Raises Refusal.
    """
    if not optional:
        _check_type(request)
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise too_large()
    try:
        async with asyncio.timeout(BODY_S):
            body = await _whole(request)
    except TimeoutError:
        raise _too_slow() from None
    if optional and body:
        _check_type(request)
    return body


async def _whole(request: Request) -> bytearray:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise too_large()
    return body


def json_in(body: bytes | bytearray) -> Any:
    """What a body says. Raises Refusal (400) when that is not JSON as the log can keep it, or says a thing twice."""
    try:
        said = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise malformed(str(error)) from None
    # Some readers take the first of two and some the last: whoever looked at it on the way may have seen another one.
    _ONCE.decode(body.decode())
    return said


def _expect_once(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise malformed(f"one object in it has {name[:64]!r} twice")
        seen.add(name)


_ONCE = json.JSONDecoder(object_pairs_hook=_expect_once, parse_int=len, parse_float=len)


def read_body(model: type[M], body: bytes | bytearray, detail: str = "Correct what `errors` names.") -> M:
    """The model in a body; an empty one stands for `{}`. Raises Refusal: 400 when it is not JSON, 422 for a misfit."""
    whole = body or b"{}"
    json_in(whole)
    try:
        return model.model_validate_json(whole)
    except ValidationError as error:
        raise misfit(error, detail) from None


def misfit(error: ValidationError, detail: str, *, within: str = "") -> Refusal:
    """What does not fit, by where it is and never by what was sent; `within` names the field that was looked at."""
    if error.error_count() > FAULTS_LOOKED_AT:
        return Refusal(INVALID, detail, errors=[fault((), f"{error.error_count()} values in it do not fit")])
    found = error.errors(include_url=False, include_context=False, include_input=False)
    place = (within,) if within else ()
    return Refusal(INVALID, detail, errors=[fault((*place, *e["loc"]), e["msg"]) for e in found[:MAX_FAULTS]])


def too_large() -> Refusal:
    return Refusal(
        TOO_LARGE, f"A job may have {MAX_BODY:,} bytes. Keep large data elsewhere and send its address.", limit=MAX_BODY
    )


def _too_slow() -> Refusal:
    detail = f"Its body took over {BODY_S:g} s to arrive. Send it in one go; the same request again is safe with a key."
    return Refusal(TOO_SLOW, detail, headers={"Connection": "close"})


def too_deep() -> Refusal:
    """It is JSON, but wrapped into a message of the log it could not be read back."""
    return malformed("it is nested too deeply")


def malformed(why: str) -> Refusal:
    return Refusal(
        MALFORMED,
        f"The body cannot be read: {why}. Send one JSON object in UTF-8, without NaN, Infinity or lone surrogates, "
        "nested less than 200 deep.",
    )


def _check_type(request: Request) -> None:
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(BAD_MEDIA_TYPE, "Send it with Content-Type: application/json (with curl, --json instead of -d).")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(BAD_MEDIA_TYPE, "Send the body uncompressed, without Content-Encoding.")
