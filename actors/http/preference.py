"""A preference: how a request would like to be answered, in the words of RFC 7240."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import Request

from actors.runtime.flags import STREAM_LIFE_S

LONGEST_WAIT_S = STREAM_LIFE_S
"""Nobody waits longer in one request: the proxy in front cuts what stays open for much more."""

_WAIT = re.compile(r'\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?:;.*)?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Preference:
    """How many seconds a request may stay open for its outcome; None where it does not say."""

    wait: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says about it."""
        return {} if self.wait is None else {"Preference-Applied": f"wait={self.wait}"}


def preference_of(request: Request) -> Preference:
    """What a request prefers. Of several the first counts, and what is not understood is passed over: RFC 7240, 2."""
    for said in ",".join(request.headers.getlist("Prefer")).split(","):
        if found := _WAIT.fullmatch(said):
            return Preference(min(int(found[1]), LONGEST_WAIT_S))
    return Preference()
