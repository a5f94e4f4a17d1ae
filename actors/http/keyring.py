"""The keyring: the keys that open this installation, as a process that answers requests knows them."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from actors.contracts.api_key import ApiKey, id_of
from actors.contracts.subjects import LOCAL
from actors.http.caller import Caller
from actors.http.problem import INVALID_KEY, Refusal, unavailable
from actors.journal import Unanswered
from actors.journal.journal import PatientJournal
from actors.journal.mirror import Mirror
from actors.journal.shelf import KEYS
from actors.runtime.writer import Clock

STALE_S = 3.0
"""What was read longer ago is no reason to let anybody in."""

PATIENCE_S = 1.0
"""How long a request waits for the keys to be read at all."""

LOOK_S = 0.02

OPEN = Caller(LOCAL, is_operator=True)
"""Everybody, where nobody needs a key: whoever can ask is on this machine, and there is one tenant."""

_MAKE_ONE = "Make one on the server's machine: `headrace keys create --tenant NAME`."
_SEND_ONE = "Send it as `Authorization: Bearer hrk_…`; whoever runs the server makes one with `headrace keys create`."


@dataclass(frozen=True, slots=True)
class Stay:
    """A caller who was let in, and until when by the key's own date; None: for good."""

    caller: Caller
    seconds: float | None = None


class Keyring:
    """Knows the keys, and puts out whoever came with one that is no good any more, within a second or two.

    Where no key was ever made it is open to everybody on loopback, and to nobody elsewhere. What cannot be read opens
    nothing.
    """

    def __init__(self, *, is_loopback: bool, now: Clock) -> None:
        self._is_loopback = is_loopback
        self.now = now
        self._keys: Mirror[ApiKey] = Mirror(KEYS, ApiKey)
        self._keys.looked.append(self._put_out)
        self._present: defaultdict[str, set[asyncio.Timeout]] = defaultdict(set)

    @asynccontextmanager
    async def following(self, journals: PatientJournal) -> AsyncIterator[None]:
        """While this is entered, it follows what people set."""
        async with self._keys.following(journals):
            yield

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a key."""
        return self._is_loopback and not self._keys.values

    async def admit(self, text: str | None, *, patience: float = PATIENCE_S) -> Stay:
        """Who comes with this key, or without any. Waits so many seconds for the keys to be read. Raises Refusal."""
        await self._read(patience)
        id = id_of(text) if text else None
        key = await self._find(id) if id else None
        if self.is_open:
            return Stay(OPEN)
        if not self._keys.values:
            raise _no("There is no key yet, and none is needed on loopback only. " + _MAKE_ONE)
        if text is None:
            raise _no("A key is needed here. " + _SEND_ONE)
        if id is None or key is None or not key.fits(text):
            raise _no("This is no key of this server. " + _SEND_ONE, wrong=True)
        return self._stay(id, key)

    async def admit_signed(self, id: str, said: str, signature: str, *, patience: float = PATIENCE_S) -> Stay:
        """The same for who comes with what was said by the owner of this key: they only read."""
        await self._read(patience)
        key = await self._find(id)
        if key is None or not key.proves(said, signature):
            raise _no("This session is none of this server's. Begin another one.", wrong=True)
        stay = self._stay(id, key)
        return replace(stay, caller=replace(stay.caller, only_reads=True))

    def sign(self, caller: Caller, said: str) -> str:
        """What proves later that it was said by this caller, for as long as the key is good. Raises Refusal."""
        if (key := self._keys.values.get(caller.key)) is None:
            raise _no("There is no such key any more.", wrong=True)
        return key.sign(said)

    @contextmanager
    def present(self, stay: Stay, leave: asyncio.Timeout) -> Iterator[None]:
        """While somebody who was let in is here; `leave` ends as soon as the key is no good any more."""
        if stay.seconds is not None:
            leave.reschedule(asyncio.get_running_loop().time() + stay.seconds)
        key = stay.caller.key
        self._present[key].add(leave)
        try:
            yield
        finally:
            self._present[key].discard(leave)
            if not self._present[key]:
                del self._present[key]

    @property
    def _knows(self) -> bool:
        """Whether it is known which keys there are, and how they are now. Without any there is nothing to revoke."""
        return self._keys.age <= STALE_S or (math.isfinite(self._keys.age) and not self._keys.values)

    async def _read(self, patience: float) -> None:
        """Until that is known. Raises Refusal when it takes too long."""
        if self._knows:
            return
        try:
            async with asyncio.timeout(patience):
                while not self._knows:  # noqa: ASYNC110  # it is looked again and again
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as error:
            raise unavailable(error, "The keys cannot be read. Send the same request again.") from error

    async def _find(self, id: str) -> ApiKey | None:
        """A key, also one that was made a moment ago. Raises Refusal when that cannot be known."""
        if id not in self._keys.values:
            try:
                await self._keys.look()
            except Unanswered as error:
                raise unavailable(error, "The keys cannot be read. Send the same request again.") from error
        return self._keys.values.get(id)

    def _stay(self, id: str, key: ApiKey) -> Stay:
        now = self.now()
        if key.revoked:
            raise _no("This key was revoked. " + _SEND_ONE, wrong=True)
        if not key.is_good(now):
            raise _no("This key has expired. " + _SEND_ONE, wrong=True)
        left = (key.expires - now).total_seconds() if key.expires else None
        return Stay(Caller(key.tenant, key.is_operator, id), left)

    def _put_out(self) -> None:
        now, loop = self.now(), asyncio.get_running_loop()
        for id, here in list(self._present.items()):
            key = self._keys.values.get(id)
            if (key is None or not key.is_good(now)) and not (self.is_open and not id):
                for leave in [leave for leave in here if not leave.expired()]:
                    leave.reschedule(loop.time())


def _no(detail: str, *, wrong: bool = False) -> Refusal:
    """Source: RFC 6750, section 3."""
    challenge = 'Bearer realm="headrace"' + (', error="invalid_token"' if wrong else "")
    return Refusal(INVALID_KEY, detail, headers={"WWW-Authenticate": challenge})


NO_LONGER = _no("The key was revoked, or has expired, while this was under way. " + _SEND_ONE, wrong=True)
