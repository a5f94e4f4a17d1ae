"""The one append: every message of the log goes through here, compared with what its writer knows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from random import Random

import nats.errors

from actors.contracts.errors import HeadraceError
from actors.contracts.subjects import DEAD, Address, Kind, Subject, arrivals_subject
from actors.journal.connection import Link, Unanswered

MAX_MESSAGE = 1 << 20
"""The most bytes that a message may have."""

MAX_AGAIN = MAX_MESSAGE + (64 << 10)
"""A hand-off that gives a step out again says a little more than the first, which may have had the most bytes."""

MAX_DEAD_LETTER = 1_900_000
"""A dead letter has its input whole, so it may be larger; the server's own limit (2 MB) lies over them all."""

FOR_EVER = -1
"""The `ttl` of a message that stays whatever the log's age limit."""

WRONG_LAST_SEQUENCE = 10071
IN_FLIGHT = 10164
NOT_NOW = (429, 500, 503)
"""Too much at once; no room in the account (10047); no room in the log (10077), or nobody leads it."""

FIRST_BACKOFF_S = 0.02
LONGEST_BACKOFF_S = 1.0


class Refused(HeadraceError):
    """Something this writer has not seen is there, perhaps its own earlier append: read up to `last`, and fold.

    `last` is never to be expected as it is: an expected sequence comes from a stored append or a fold.
    """

    def __init__(self, last: int) -> None:
        super().__init__(f"the log has gone on to sequence {last}; read it and decide again")
        self.last = last


class Undecided(HeadraceError):
    """Whether the append is stored is unknown, and its writer's patience is over. The same append again is safe."""


class TooLarge(HeadraceError):
    """The message is over the limit and was not stored."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the message has {size:,} bytes; the limit is {limit:,}: keep large data elsewhere and send its address"
        )
        self.size = size


class Appender:
    """Appends to the log over a connection of its own.

    An append carries the job's last sequence over all its subjects, with the one spelling of the filter, and the server
    refuses it when anything else was stored meanwhile. That gives create-once, fencing, order and one outcome; and it
    makes every retry safe, so unclear answers are retried with the same expectation. There is no plain append.
    """

    def __init__(self, link: Link, rng: Random) -> None:
        self._link = link
        self._rng = rng

    async def append(
        self,
        address: Address,
        kind: Kind,
        topic: str,
        data: bytes,
        *,
        expect: int,
        ttl: int | None = None,
        again: bool = False,
        patience: float | None = None,
    ) -> int:
        """Store `data` if `expect` is still the job's last sequence (0: no such job); its sequence.

        Durable when it returns. `ttl` is in seconds, or `FOR_EVER`. `again`: it gives out a step again.
        Raises Refused when the job's log has gone on, TooLarge, and Undecided after `patience` seconds without a clear
        answer (None: tries until cancelled).
        """
        limit = MAX_DEAD_LETTER if topic == DEAD else MAX_AGAIN if again else MAX_MESSAGE
        if len(data) > limit:
            raise TooLarge(len(data), limit)
        place = address.subject(kind, topic)
        subject = str(place)
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(expect),
            "Nats-Expected-Last-Subject-Sequence-Subject": address.filter,
        }
        if ttl is not None:
            headers["Nats-TTL"] = "never" if ttl < 0 else f"{ttl}s"
        waited = ""
        try:
            async with asyncio.timeout(patience):
                backoff, collision = FIRST_BACKOFF_S, 0.001
                while True:
                    try:
                        answer = json.loads((await self._link.request(subject, data, headers=headers)).data)
                    except nats.errors.MaxPayloadError:
                        raise TooLarge(len(data), self._link.client.max_payload) from None
                    except Unanswered as error:
                        waited = str(error)
                        if not self._link.is_up:
                            await self._link.wait_until_up()
                    else:
                        if "error" not in answer:  # a refusal carries a `seq` too: 0
                            await self._tell_arrival(place)
                            return int(answer["seq"])
                        code, waited = _refusal(answer)
                        if code == IN_FLIGHT:
                            await asyncio.sleep(self._rng.uniform(0, collision))
                            collision = min(collision * 2, 0.064)
                            continue
                    await asyncio.sleep(self._rng.uniform(0, backoff))
                    backoff = min(backoff * 2, LONGEST_BACKOFF_S)
        except TimeoutError:
            raise Undecided(waited or "the server did not answer in time") from None

    async def _tell_arrival(self, place: Subject) -> None:
        """Tell the workers of a stage that are busy: when this is lost, they find it a little later."""
        if (queue := place.queue) and queue.share:
            with contextlib.suppress(Unanswered):
                await self._link.send(arrivals_subject(queue.stage, queue.token))


class NotStored(HeadraceError):
    """The server will not store this message, now or later: a bug of ours, or a log set up differently."""


def _refusal(answer: dict[str, dict[str, object]]) -> tuple[int, str]:
    """What an error answer means: its code and description when the same append may be tried again. Raises the rest."""
    error = answer["error"]
    code, description = int(str(error.get("err_code", 0))), str(error.get("description", ""))
    if code == WRONG_LAST_SEQUENCE:
        found = re.search(r"(\d+)\s*$", description)
        raise Refused(int(found.group(1)) if found else 0)
    if code == IN_FLIGHT or error.get("code") in NOT_NOW:
        return code, description
    raise NotStored(f"the server refused to store a message ({code}): {description}")
