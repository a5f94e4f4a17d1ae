"""Places: how far a reader has read in one job or in several, as it says when it resumes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from starlette.requests import HTTPConnection

from actors.http.problem import BAD_PLACE, Refusal
from actors.journal.follow import Place

BETWEEN = "-"
"""What stands between the places in several jobs, which are in the order of the jobs in the address."""

_PLACE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,18}))?")


def place_of(request: HTTPConnection) -> Place:
    """How far the reader of a job has read. What it says when it resumes is newer than its URL. Raises Refusal."""
    said = _said(request)
    if not said:
        return Place()
    if place := _place(said):
        return place
    raise Refusal(
        BAD_PLACE, "Send the `id:` of the last event you have seen as Last-Event-ID, or its number as ?after=, or none."
    )


def places_of(request: HTTPConnection, jobs: Sequence[str]) -> list[Place]:
    """The same in several jobs. Raises Refusal."""
    said = _said(request)
    if not said:
        return [Place() for _ in jobs]
    places = [place for one in said.split(BETWEEN) if (place := _place(one))]
    if len(places) != len(jobs) or len(places) != said.count(BETWEEN) + 1:
        raise Refusal(
            BAD_PLACE,
            "Send the `id:` of the last event you have seen as Last-Event-ID, for the same jobs in the same order.",
        )
    return places


def written(places: Iterable[Place]) -> str:
    """The `id:` of an event that was sent when a reader had read so far."""
    return BETWEEN.join(f"{place.n}.{place.seq}" if place.n else "0" for place in places)


def _said(request: HTTPConnection) -> str | None:
    return request.headers.get("Last-Event-ID") or request.query_params.get("after")


def _place(said: str) -> Place | None:
    found = _PLACE.fullmatch(said)
    return Place(int(found[1]), int(found[2] or 0)) if found else None
