"""Compare and append, on one server and on a cluster of three."""

from __future__ import annotations

import pytest

from actors.journal import Journal, Refused
from tests.scribe import new_address


async def test_the_first_append_of_a_job_creates_it_and_the_second_is_refused(journal: Journal) -> None:
    address = new_address()
    seq = await journal.appender.append(address, "job", "write", b"one", expect=0)
    assert seq > 0
    with pytest.raises(Refused) as refused:
        await journal.appender.append(address, "job", "write", b"two", expect=0)
    assert refused.value.last == seq
    assert [r.data for r in await journal.reader.job(address.tenant, address.job, at_least=seq)] == [b"one"]
