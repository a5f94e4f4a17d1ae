"""Pages: which part of a list is asked for, where a cursor is a place in the log."""

from __future__ import annotations

from starlette.requests import Request

from actors.http.problem import BAD_PAGE, Refusal

PAGE = 50
LONGEST_PAGE = 200


def page_of(request: Request) -> tuple[int, int]:
    """How many are asked for at most, and after which place. Raises Refusal."""
    asked = request.query_params
    return _number(asked.get("limit"), PAGE, 1, LONGEST_PAGE), _number(asked.get("cursor"), 0, 0)


def _number(given: str | None, default: int, least: int, most: int = (1 << 63) - 1) -> int:
    if given is None:
        return default
    if given.isascii() and given.isdecimal() and len(given) < 20 and least <= int(given) <= most:
        return int(given)
    raise Refusal(
        BAD_PAGE, f"`limit` is a number from 1 to {LONGEST_PAGE}, and `cursor` the `next` of the page before."
    )
