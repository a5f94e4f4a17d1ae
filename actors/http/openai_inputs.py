"""OpenAI's list of input items: what the model was given for a response, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.contracts.conversation import Said
from actors.http.openai_errors import INVALID_VALUE
from actors.http.problem import Refusal

Json = dict[str, Any]

PAGE, LONGEST_PAGE = 20, 100


def page(job: str, said: Sequence[Said], query: Mapping[str, str]) -> Json:
    """A page of the turns that a response was made from, its instructions left out. Raises Refusal.

    Items are told as they are kept: as turns. What was called and given back stands in them as the model read it.
    """
    items = [_item(job, at, turn) for at, turn in enumerate(said)]
    if _one_of(query, "order", ("desc", "asc")) == "desc":
        items.reverse()
    limit, begin = _limit(query), 0
    if after := query.get("after"):
        ids = [item["id"] for item in items]
        if after not in ids:
            raise _unfit("after", "It is the id of an item of this response.")
        begin = ids.index(after) + 1
    told = items[begin : begin + limit]
    return {
        "object": "list",
        "data": told,
        "first_id": told[0]["id"] if told else None,
        "last_id": told[-1]["id"] if told else None,
        "has_more": begin + limit < len(items),
    }


def _item(job: str, at: int, turn: Said) -> Json:
    kind = "output_text" if turn.role == "assistant" else "input_text"
    part: Json = {"type": kind, "text": turn.content}
    if kind == "output_text":
        part["annotations"] = []
    return {"id": f"msg_{job}_in_{at}", "type": "message", "role": turn.role, "status": "completed", "content": [part]}


def _limit(query: Mapping[str, str]) -> int:
    said = query.get("limit", str(PAGE))
    if said.isascii() and said.isdecimal() and len(said) < 5 and 1 <= int(said) <= LONGEST_PAGE:
        return int(said)
    raise _unfit("limit", f"It is a number from 1 to {LONGEST_PAGE}.")


def _one_of(query: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    said = query.get(name, known[0])
    if said not in known:
        raise _unfit(name, f"It is one of: {', '.join(known)}.")
    return said


def _unfit(param: str, why: str) -> Refusal:
    return Refusal(INVALID_VALUE, f"`{param}` does not fit. {why}", param=param)
