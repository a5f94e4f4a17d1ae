"""The audit log as the real server keeps it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from actors.contracts.events import HandOff, Record, place
from actors.contracts.messages import Packed
from actors.contracts.subjects import job_filter
from actors.journal import Journal
from actors.journal.append import FOR_EVER
from actors.journal.connection import ApiError, NobodyThere
from actors.journal.topology import AUDIT, AUDIT_S, JOBS, _ensure_stream, audit_stream
from actors.journal.trail import Entry, Trail
from tests.ledger import FACTS, a_job, copied, entries, jobs, until
from tests.scribe import Scribe

DELETE_DENIED, PURGE_DENIED = 10057, 10110


async def test_every_fact_is_there_as_it_was_stored_and_no_text(journal: Journal) -> None:
    written = await jobs(journal, 3)
    live: list[Record] = []
    for job in written:
        live += await journal.reader.job(job.address.tenant, job.address.job, at_least=job.chain.seq)
    found = await entries(journal)
    assert [(e.record.seq, e.record.subject, e.data) for e in found if isinstance(e, Entry) and e.record] == [
        (r.seq, r.subject, r.data) for r in live if not r.is_text
    ]
    assert [e.seq for e in found if isinstance(e, Entry)] == list(range(1, 3 * FACTS + 1))


async def test_the_jobs_leave_no_subject_of_their_own(journal: Journal) -> None:
    await jobs(journal, 3)
    info = await journal.signals.api(f"STREAM.INFO.{AUDIT}", {"subjects_filter": ">"})
    kept = {f"audit.{topic}.standard.local" for topic in ("write", "step", "done")}
    assert set(info["state"]["subjects"]) == kept


async def test_what_is_forgotten_in_the_log_of_jobs_stays(journal: Journal) -> None:
    [forgotten, _] = await jobs(journal, 2)
    before = await entries(journal)
    tenant, name = forgotten.address.tenant, forgotten.address.job
    purged = await journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": job_filter(tenant, name)})
    assert purged["purged"] == forgotten.chain.n
    later = await a_job(journal)
    await copied(journal, later.chain.seq)
    assert list(await entries(journal))[: len(before)] == before


@pytest.mark.parametrize("ttl", [1, FOR_EVER])
async def test_how_long_a_fact_is_kept_is_not_for_its_writer_to_say(journal: Journal, ttl: int) -> None:
    job = Scribe(journal.appender)
    event = job.event(HandOff, stage="write", origin=job.origin, message=Packed(type="Note", body={}))
    kind, topic = place(event)
    seq = await journal.appender.append(job.address, kind, topic, event.encode(), expect=0, ttl=ttl)
    await copied(journal, seq)
    if ttl > 0:

        async def is_gone() -> bool:
            return await journal.reader.last(job.address.tenant, job.address.job) is None

        await until(is_gone)
    assert [found.data for found in await entries(journal) if isinstance(found, Entry)] == [event.encode()]
    assert (await Trail(journal.replays).span()).max_age == timedelta(seconds=AUDIT_S).total_seconds()


async def test_nobody_deletes_or_publishes_an_entry(journal: Journal) -> None:
    await jobs(journal, 1)
    before = await entries(journal)
    with pytest.raises(ApiError) as denied:
        await journal.signals.api(f"STREAM.MSG.DELETE.{AUDIT}", {"seq": 1})
    assert denied.value.code == DELETE_DENIED
    with pytest.raises(ApiError) as denied:
        await journal.signals.api(f"STREAM.PURGE.{AUDIT}")
    assert denied.value.code == PURGE_DENIED
    with pytest.raises(NobodyThere):
        await journal.signals.request("audit.done.standard.local", b"forged")
    assert await entries(journal) == before


async def test_when_it_is_full_it_stops_and_says_so_and_goes_on_without_a_loss(journal: Journal) -> None:
    replicas = (await journal.signals.api(f"STREAM.INFO.{JOBS}"))["config"]["num_replicas"]
    await jobs(journal, 2)
    trail = Trail(journal.replays)
    full = audit_stream(replicas=replicas, max_bytes=(await trail.span()).bytes + 2_000)
    await _ensure_stream(journal.signals, full)
    more = [await a_job(journal) for _ in range(5)]

    async def waits() -> bool:
        span = await trail.span()
        return span.is_full and span.lag > 0

    await until(waits)
    assert (await trail.span()).last < 7 * FACTS
    await _ensure_stream(journal.signals, audit_stream(replicas=replicas, max_bytes=1 << 30))
    await copied(journal, more[-1].chain.seq)
    found = await entries(journal)
    assert len(found) == 7 * FACTS
    assert all(isinstance(entry, Entry) for entry in found)
    assert not (await trail.span()).is_full
