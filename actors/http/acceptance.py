"""Acceptance: a job's first message is stored, unless there is such a job."""

from __future__ import annotations

from pydantic_core import from_json

from actors.contracts.events import HandOff, place
from actors.contracts.subjects import Address
from actors.http.body import too_deep, too_large
from actors.journal import Journal, TooLarge


async def accept(journal: Journal, address: Address, handoff: HandOff, *, patience: float | None = None) -> None:
    """Make the job; it is on disk when this returns.

    Raises the journal's Refused when it is there already, Undecided after `patience` seconds, and Refusal for a message
    that the log cannot keep.
    """
    data = handoff.encode()
    try:
        from_json(data)  # what cannot be read back is never stored
    except ValueError:
        raise too_deep() from None
    kind, topic = place(handoff)
    try:
        await journal.appender.append(address, kind, topic, data, expect=0, patience=patience)
    except TooLarge:
        raise too_large() from None
