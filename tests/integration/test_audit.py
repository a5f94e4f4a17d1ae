"""What an audit finds on a real server: damage that JetStream drops in silence, and what somebody forged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from actors.audit.checkpoint import CHECKPOINTS, PUBLIC_KEY, Seal
from actors.audit.finding import Flaw
from actors.audit.notary import Notary
from actors.audit.replay import Replayed, replay
from actors.audit.verify import Checkpoints, Verdict, verify
from actors.contracts.chain import digest
from actors.contracts.errors import HeadraceError
from actors.contracts.events import Record
from actors.contracts.subjects import job_filter
from actors.journal import Journal
from actors.journal.topology import AUDIT, JOBS, NS, _ensure_stream, audit_stream, jobs_stream
from actors.journal.trail import Entry, Trail
from tests.actions import watched_actions
from tests.integration.conftest import R1, opened
from tests.ledger import FACTS, a_job, a_started_job, complete, copied, entries, jobs, until
from tests.nats_servers import Servers, cluster, lone
from tests.scribe import Scribe

LATER = timedelta(minutes=2)


async def signed(journal: Journal, folder: Path) -> int:
    trail = Trail(journal.replays)
    return await Notary(folder).round(trail, await trail.span())


async def verified(
    journal: Journal, folder: Path | None = None, *, of: Forger | None = None, after: timedelta = timedelta()
) -> Verdict:
    """What a verification says now, or a while later; of the audit log there, or of a forged one."""
    checkpoints = Checkpoints(folder / CHECKPOINTS, Seal(folder / PUBLIC_KEY)) if folder else None
    trail = of.trail if of else Trail(journal.replays)
    return await verify(trail, journal.reader, checkpoints, now=datetime.now(UTC) + after)


async def replayed(journal: Journal, *, of: Forger | None = None) -> Replayed:
    trail = of.trail if of else Trail(journal.replays)
    return await replay(trail, journal.reader, now=datetime.now(UTC))


def named(verdict: Verdict | Replayed) -> set[tuple[Flaw, str]]:
    return {(finding.flaw, finding.job) for finding in verdict.findings}


def about(verdict: Verdict | Replayed) -> set[str]:
    return {finding.job for finding in verdict.findings}


async def forget(journal: Journal, *gone: Scribe) -> None:
    """Purge jobs from the log of jobs, or all of them."""
    filters = [job_filter(job.address.tenant, job.address.job) for job in gone] or [">"]
    for which in filters:
        await journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": which})


@dataclass(frozen=True, slots=True)
class Kept:
    """A fact as the audit log keeps it, to be put elsewhere."""

    seq: int
    subject: str
    data: bytes

    def holding(self, other: Kept) -> Kept:
        """Another fact in the place of this one."""
        return replace(other, seq=self.seq)

    def saying(self, before: bytes, after: bytes) -> Kept:
        assert before in self.data
        return replace(self, data=self.data.replace(before, after))


async def as_kept(journal: Journal) -> list[Kept]:
    found = [entry.record for entry in await entries(journal) if isinstance(entry, Entry)]
    return [Kept(record.seq, record.subject, record.data) for record in found if record]


class Forger:
    """Has a server of their own, and puts there an audit log that looks like ours."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.trail = Trail(journal.replays)

    async def forge(self, wanted: Sequence[Kept], *, beside: bytes = b"") -> None:
        """An audit log of these facts, each with the place in the log of jobs that it had."""
        position = 0
        for kept in wanted:
            while (position := position + 1) < kept.seq:
                await self._publish("text.filler.standard.local." + "a" * 26, b"{}")
            await self._publish(kept.subject, kept.data)
        await copied(self._journal, position)
        if beside:
            await self._publish("audit.forged", beside)

    async def _publish(self, subject: str, data: bytes) -> None:
        answer = json.loads((await self._journal.appends.request(subject, data)).data)
        assert "error" not in answer, answer


@pytest_asyncio.fixture
async def forger(tmp_path: Path) -> AsyncIterator[Forger]:
    servers = lone(tmp_path / "forged")
    try:
        await servers.start()
        async with Journal.open(servers.urls, "forger") as journal:
            await _ensure_stream(journal.signals, jobs_stream(replicas=1, max_bytes=1 << 30))
            audit = audit_stream(replicas=1, max_bytes=1 << 30)
            await _ensure_stream(journal.signals, audit | {"subjects": ["audit.forged"]})
            yield Forger(journal)
    finally:
        await servers.close()


def blocks(servers: Servers, stream: str) -> list[Path]:
    """The file of a small stream on each server."""
    found = [sorted(node.folder.glob(f"jetstream/*/streams/{stream}/msgs/*.blk")) for node in servers.nodes]
    assert all(len(files) == 1 for files in found)
    return [files[0] for files in found]


def flip(block: Path, job: Scribe) -> None:
    """Change one bit of what a job's first fact says."""
    data = bytearray(block.read_bytes())
    data[data.index(b'"stage"', data.index(job.address.job.encode())) + 9] ^= 1
    block.write_bytes(data)


def cut(block: Path, job: Scribe) -> None:
    """Cut the file off where a job's first fact is."""
    data = block.read_bytes()
    block.write_bytes(data[: data.index(job.address.job.encode())])


@asynccontextmanager
async def down(servers: Servers, journal: Journal) -> AsyncIterator[None]:
    """While the servers are down; they serve again on the way out."""
    for index in range(servers.replicas):
        await servers.stop(index)
    yield
    await servers.start()
    await journal.wait_until_up()

    async def is_served() -> bool:
        # A stream is there once it has a leader, and answers once its copies do.
        for stream in (JOBS, AUDIT):
            await servers.leader_of(stream)
        return isinstance(await verified(journal), Verdict)

    await until(is_served)


@pytest_asyncio.fixture(params=[1, 3], ids=["r1", "r3"])
async def own(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Servers]:
    """Servers whose files a test may damage."""
    servers = lone(tmp_path / "r1") if request.param == 1 else cluster(tmp_path / "r3")
    try:
        await servers.start()
        yield servers
    finally:
        await servers.close()


OWN_R1 = pytest.mark.parametrize("own", [1], indirect=True, ids=["r1"])
OWN_R3 = pytest.mark.parametrize("own", [3], indirect=True, ids=["r3"])


async def test_a_whole_log_is_said_to_be_whole(journal: Journal, tmp_path: Path) -> None:
    await jobs(journal, 4)
    running = await a_started_job(journal)
    await copied(journal, running.chain.seq - 2)
    assert await signed(journal, tmp_path) == 1
    verdict = await verified(journal, tmp_path)
    assert not verdict.findings
    assert (verdict.entries, verdict.jobs, verdict.running) == (4 * FACTS + 2, 5, 1)
    assert (verdict.checkpoints, verdict.sealed) == (1, verdict.entries)
    done = await replayed(journal)
    assert not done.findings
    assert done.by_status == {"completed": 4, "running": 1}


async def test_a_job_that_is_forgotten_is_still_whole_here(journal: Journal, tmp_path: Path) -> None:
    made = await jobs(journal, 3)
    await signed(journal, tmp_path)
    await forget(journal, made[1])
    assert not (await verified(journal, tmp_path)).findings
    done = await replayed(journal)
    assert not done.findings
    assert (done.by_status["completed"], done.forgotten) == (3, 1)


@pytest.mark.parametrize("live", [True, False], ids=["live", "forgotten"])
async def test_a_flipped_bit_in_a_stored_block_is_found_and_the_job_named(
    own: Servers, tmp_path: Path, live: bool
) -> None:
    async with opened(own) as journal:
        made = await jobs(journal, 5)
        await signed(journal, tmp_path)
        if not live:
            await forget(journal)
        async with down(own, journal):
            for block in blocks(own, AUDIT):
                flip(block, made[2])
        verdict = await verified(journal, tmp_path)
        assert verdict.entries == 5 * FACTS - 1
        assert ("missing", made[2].address.job) in named(verdict)
        assert about(verdict) <= {made[2].address.job, ""}
        # Without checkpoints its chain shows it too.
        assert ("missing", made[2].address.job) in named(await verified(journal))


@pytest.mark.parametrize("live", [True, False], ids=["live", "forgotten"])
async def test_a_cut_block_is_found_and_every_job_named_that_it_held(own: Servers, tmp_path: Path, live: bool) -> None:
    async with opened(own) as journal:
        made = await jobs(journal, 6)
        await signed(journal, tmp_path)
        if not live:
            await forget(journal)
        async with down(own, journal):
            for block in blocks(own, AUDIT):
                cut(block, made[3])
        verdict = await verified(journal, tmp_path)
        assert about(verdict) - {""} == {job.address.job for job in made[3:]}
        assert await signed(journal, tmp_path) == 0


@OWN_R3
async def test_damage_to_one_copy_of_three_is_found_by_looking_again(own: Servers, tmp_path: Path) -> None:
    async with opened(own) as journal:
        made = await jobs(journal, 4)
        await signed(journal, tmp_path)
        async with down(own, journal):
            flip(blocks(own, AUDIT)[0], made[1])

        async def another_leads() -> bool:
            if await own.leader_of(AUDIT) != 0:
                return True
            await journal.signals.api(f"STREAM.LEADER.STEPDOWN.{AUDIT}")
            return False

        async def is_found() -> bool:
            # Each look reads from one copy, by chance. What that one lacks is the leader's to show.
            verdict = await verified(journal, tmp_path, after=LATER)
            assert verdict.entries == 4 * FACTS
            assert about(verdict) <= {made[1].address.job}
            return bool(verdict.findings)

        await until(another_leads)
        await until(is_found)


@OWN_R1
async def test_a_fact_of_a_running_job_that_the_live_log_lost_is_found_by_the_replay(own: Servers) -> None:
    async with opened(own) as journal:
        await jobs(journal, 2)
        running = await a_started_job(journal)
        await copied(journal, running.chain.seq - 2)
        async with down(own, journal):
            flip(blocks(own, JOBS)[0], running)
        done = await replayed(journal)
        assert done.by_status == {"completed": 2, "running": 1}
        assert named(done) == {("missing", running.address.job)}


@R1
async def test_a_job_with_a_hole_in_the_live_log_is_found_and_one_that_is_being_forgotten_is_not(
    journal: Journal,
) -> None:
    made = await jobs(journal, 3)
    live = await journal.reader.job(made[0].address.tenant, made[0].address.job)
    for gone in live[:-1]:
        await journal.signals.api(f"STREAM.MSG.DELETE.{JOBS}", {"seq": gone.seq})
    assert not (await replayed(journal)).findings
    [_, started, *_] = await journal.reader.job(made[1].address.tenant, made[1].address.job)
    await journal.signals.api(f"STREAM.MSG.DELETE.{JOBS}", {"seq": started.seq})
    assert named(await replayed(journal)) == {("missing", made[1].address.job)}


async def test_a_job_that_is_made_anew_after_it_was_forgotten_is_another_one(journal: Journal, tmp_path: Path) -> None:
    [first, _] = await jobs(journal, 2)
    await forget(journal, first)
    again = Scribe(journal.appender, first.address)
    await again.hand_off("write")
    await copied(journal, again.chain.seq)
    await signed(journal, tmp_path)
    verdict = await verified(journal, tmp_path)
    assert not verdict.findings
    assert (verdict.jobs, verdict.running) == (3, 1)
    done = await replayed(journal)
    assert not done.findings
    assert done.by_status == {"completed": 2, "queued": 1}
    await complete(again)
    await copied(journal, again.chain.seq)
    assert not (await verified(journal, tmp_path)).findings
    assert not (await replayed(journal)).findings


async def remake(journal: Journal, **differently: object) -> None:
    """Make the audit log anew, set up otherwise than it should be."""
    await journal.signals.api(f"STREAM.DELETE.{AUDIT}")
    await _ensure_stream(journal.signals, audit_stream(replicas=1, max_bytes=1 << 30) | differently)


@R1
async def test_a_log_with_nothing_in_it_is_whole(journal: Journal, tmp_path: Path) -> None:
    assert await signed(journal, tmp_path) == 0
    verdict = await verified(journal)
    assert (verdict.entries, verdict.findings) == (0, [])
    assert not (await replayed(journal)).findings


@R1
async def test_what_has_expired_is_not_missed(journal: Journal, tmp_path: Path) -> None:
    await remake(journal, max_age=NS)
    first = await jobs(journal, 2)
    await signed(journal, tmp_path)

    async def has_expired() -> bool:
        return (await Trail(journal.replays).span()).first > 2 * FACTS

    await until(has_expired)
    await forget(journal, *first)
    later = await a_job(journal)
    await copied(journal, later.chain.seq)
    await _ensure_stream(journal.signals, audit_stream(replicas=1, max_bytes=1 << 30) | {"max_age": NS * 3_600})
    # The log may keep for an hour from now on what it has; of what it let go of, an hour later nothing is asked.
    verdict = await verified(journal, tmp_path, after=timedelta(hours=1))
    assert not verdict.findings


@R1
async def test_a_beginning_that_is_gone_before_its_time_is_found(journal: Journal, tmp_path: Path) -> None:
    await remake(journal, deny_delete=False, deny_purge=False)
    made = await jobs(journal, 3)
    await signed(journal, tmp_path)
    await journal.signals.api(f"STREAM.PURGE.{AUDIT}", {"seq": FACTS + 1})
    await forget(journal)
    assert named(await verified(journal, tmp_path)) == {("missing", made[0].address.job)}


async def test_a_log_that_was_deleted_as_a_whole_is_made_again_and_what_it_lacks_is_found(
    journal_r1: Journal, tmp_path: Path
) -> None:
    made = await jobs(journal_r1, 3)
    await signed(journal_r1, tmp_path)
    await forget(journal_r1, made[0])
    await remake(journal_r1)
    await copied(journal_r1, made[-1].chain.seq)
    assert named(await verified(journal_r1, tmp_path)) == {("truncated", made[0].address.job)}


@R1
async def test_bytes_that_are_no_event_are_found_in_either_log(journal: Journal) -> None:
    job = await a_started_job(journal)
    subject = str(job.address.subject("job", "step"))
    stored = json.loads((await journal.appends.request(subject, b"garbage")).data)
    await copied(journal, stored["seq"])
    assert named(await verified(journal)) == {("altered", job.address.job)}
    assert named(await replayed(journal)) == {("altered", job.address.job)}


@R1
async def test_a_job_that_ends_and_is_forgotten_while_the_log_is_read_is_whole(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await a_started_job(journal)
    await copied(journal, 2)
    read = journal.reader.job

    async def after_its_end(tenant: str, job: str) -> list[Record]:
        await complete(running)
        await copied(journal, running.chain.seq)
        await forget(journal, running)
        return await read(tenant, job)

    monkeypatch.setattr(journal.reader, "job", after_its_end)
    verdict = await verified(journal)
    assert (verdict.running, verdict.findings) == (1, [])


@R1
async def test_entries_that_somebody_deleted_are_found(journal: Journal, tmp_path: Path) -> None:
    await remake(journal, deny_delete=False, deny_purge=False)
    made = await jobs(journal, 4)
    await signed(journal, tmp_path)
    await journal.signals.api(f"STREAM.MSG.DELETE.{AUDIT}", {"seq": FACTS + 2})
    for gone in range(2 * FACTS + 1, 3 * FACTS + 1):
        await journal.signals.api(f"STREAM.MSG.DELETE.{AUDIT}", {"seq": gone})
    await forget(journal)
    verdict = await verified(journal, tmp_path)
    assert ("missing", made[1].address.job) in named(verdict)
    assert ("missing", made[2].address.job) in named(verdict)
    assert about(verdict) == {made[1].address.job, made[2].address.job, ""}


@R1
class TestAlarms:
    """What the notary says in its log, so that somebody looks."""

    async def test_a_log_that_is_full_is_told_with_what_waits(self, journal: Journal, tmp_path: Path) -> None:
        await jobs(journal, 2)
        trail = Trail(journal.replays)
        taken = (await trail.span()).bytes
        await _ensure_stream(journal.signals, audit_stream(replicas=1, max_bytes=taken + 100))
        await a_job(journal)
        with watched_actions() as actions:
            running = asyncio.create_task(Notary(tmp_path, every=0.02).run(journal))
            try:
                line = await actions.next("audit_short_of_room")
            finally:
                running.cancel()
        assert "HEADRACE_AUDIT_MAX_BYTES" in line["msg"]
        # What is still to come is not missing.
        assert not (await verified(journal)).findings
        assert not (await replayed(journal)).findings

    async def test_a_hole_and_an_end_that_is_gone_are_told(
        self, journal: Journal, forger: Forger, tmp_path: Path
    ) -> None:
        await remake(journal, deny_delete=False)
        await jobs(journal, 2)
        await journal.signals.api(f"STREAM.MSG.DELETE.{AUDIT}", {"seq": 2})
        with watched_actions() as actions:
            await signed(journal, tmp_path)
            assert actions.count("audit_hole", first=2, last=2) == 1
            await forger.forge((await as_kept(journal))[:2])
            assert await Notary(tmp_path).round(forger.trail, await forger.trail.span()) == 0
            assert actions.count("audit_truncated", signed=2 * FACTS, last=2) == 1


@R1
class TestForged:
    """Somebody put a log of their own in its place, without a hole."""

    async def test_facts_in_another_order_are_found(self, journal: Journal, forger: Forger, tmp_path: Path) -> None:
        made = await jobs(journal, 3)
        await signed(journal, tmp_path)
        kept = await as_kept(journal)
        first, second = kept[FACTS : FACTS + 2]
        await forger.forge([*kept[:FACTS], first.holding(second), second.holding(first), *kept[FACTS + 2 :]])
        assert named(await verified(journal, of=forger)) == {("reordered", made[1].address.job)}
        assert about(await verified(journal, tmp_path, of=forger)) == {made[1].address.job}

    async def test_jobs_in_another_order_are_found_by_the_checkpoints(
        self, journal: Journal, forger: Forger, tmp_path: Path
    ) -> None:
        made = await jobs(journal, 3)
        await signed(journal, tmp_path)
        kept = await as_kept(journal)
        moved = [place.holding(other) for place, other in zip(kept, kept[FACTS:] + kept[:FACTS], strict=True)]
        await forger.forge(moved)
        assert not (await verified(journal, of=forger)).findings
        assert about(await verified(journal, tmp_path, of=forger)) == {job.address.job for job in made}

    async def test_an_altered_fact_is_found(self, journal: Journal, forger: Forger) -> None:
        made = await jobs(journal, 3)
        kept = await as_kept(journal)
        kept[FACTS] = kept[FACTS].saying(b'"by":"test/scribe"', b'"by":"test/forger"')
        await forger.forge(kept)
        assert named(await verified(journal, of=forger)) == {("altered", made[1].address.job)}

    async def test_a_chain_that_was_made_anew_is_found_by_the_checkpoints_and_the_replay(
        self, journal: Journal, forger: Forger, tmp_path: Path
    ) -> None:
        made = await jobs(journal, 3)
        await signed(journal, tmp_path)
        true = await as_kept(journal)
        kept = list(true)
        for place in range(FACTS, 2 * FACTS):
            old = digest(true[place].data).encode()
            kept[place] = kept[place].saying(b'"by":"test/scribe"', b'"by":"test/forger"')
            if place + 1 < 2 * FACTS:
                kept[place + 1] = kept[place + 1].saying(old, digest(kept[place].data).encode())
        await forger.forge(kept)
        assert not (await verified(journal, of=forger)).findings
        assert named(await verified(journal, tmp_path, of=forger)) == {("altered", made[1].address.job)}
        assert named(await replayed(journal, of=forger)) == {("differs", made[1].address.job)}

    async def test_a_job_that_is_gone_without_a_trace_is_found_by_the_checkpoints_and_the_replay(
        self, journal: Journal, forger: Forger, tmp_path: Path
    ) -> None:
        made = await jobs(journal, 4)
        await signed(journal, tmp_path)
        kept = await as_kept(journal)
        await forger.forge(kept[:FACTS] + kept[2 * FACTS :])
        assert not (await verified(journal, of=forger)).findings
        assert named(await verified(journal, tmp_path, of=forger)) == {("truncated", made[1].address.job)}
        assert named(await replayed(journal, of=forger)) == {("missing", made[1].address.job)}

    async def test_an_end_that_was_cut_off_is_found_by_the_checkpoints(
        self, journal: Journal, forger: Forger, tmp_path: Path
    ) -> None:
        made = await jobs(journal, 4)
        await signed(journal, tmp_path)
        await forger.forge((await as_kept(journal))[: 2 * FACTS])
        assert not (await verified(journal, of=forger)).findings
        found = named(await verified(journal, tmp_path, of=forger))
        assert found == {("truncated", job.address.job) for job in made[2:]}

    async def test_a_job_whose_end_was_cut_off_is_found_by_the_live_log(self, journal: Journal, forger: Forger) -> None:
        made = await jobs(journal, 3)
        kept = await as_kept(journal)
        await forger.forge(kept[: 2 * FACTS - 1] + kept[2 * FACTS :])
        assert named(await verified(journal, of=forger)) == {("truncated", made[1].address.job)}
        await forget(journal)
        assert named(await verified(journal, of=forger)) == {("truncated", made[1].address.job)}

    async def test_an_entry_that_was_added_is_found(self, journal: Journal, forger: Forger, tmp_path: Path) -> None:
        await jobs(journal, 2)
        await signed(journal, tmp_path)
        await forger.forge(await as_kept(journal), beside=b'{"v":1}')
        assert named(await verified(journal, tmp_path, of=forger)) == {("added", "")}


@R1
class TestCheckpoints:
    async def test_each_goes_on_where_the_last_one_ended(
        self, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("actors.audit.notary.MOST_ENTRIES", 4)
        await jobs(journal, 3)
        assert await signed(journal, tmp_path) == 3
        assert await signed(journal, tmp_path) == 0
        await jobs(journal, 1)
        assert await signed(journal, tmp_path) == 1
        verdict = await verified(journal, tmp_path)
        assert not verdict.findings
        assert (verdict.checkpoints, verdict.sealed) == (4, 4 * FACTS)

    @pytest.mark.parametrize(
        "change",
        [
            lambda lines: lines[:1] + lines[2:],
            lambda lines: lines[1:],
            lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
            lambda lines: [lines[0].replace(b'"entries":4', b'"entries":5'), *lines[1:]],
        ],
        ids=["one is gone", "the first is gone", "two are exchanged", "one is altered"],
    )
    async def test_a_file_of_them_that_was_changed_is_found(
        self,
        journal: Journal,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        change: Callable[[list[bytes]], list[bytes]],
    ) -> None:
        monkeypatch.setattr("actors.audit.notary.MOST_ENTRIES", 4)
        await jobs(journal, 4)
        await signed(journal, tmp_path)
        path = tmp_path / CHECKPOINTS
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
        assert ("checkpoint", "") in named(await verified(journal, tmp_path))

    async def test_a_line_that_a_power_cut_left_half_written_is_written_again(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        await jobs(journal, 1)
        await signed(journal, tmp_path)
        path = tmp_path / CHECKPOINTS
        whole = path.read_bytes()
        for torn in (whole[:50], whole + whole[:50]):
            path.write_bytes(torn)
            assert await signed(journal, tmp_path) == (0 if torn.startswith(whole) else 1)
            assert not (await verified(journal, tmp_path)).findings
        await jobs(journal, 1)
        assert await signed(journal, tmp_path) == 1
        assert not (await verified(journal, tmp_path)).findings
        assert path.read_bytes().count(b"\n") == 2

    async def test_nothing_is_signed_after_an_end_that_this_key_did_not_sign(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        await jobs(journal, 1)
        (tmp_path / CHECKPOINTS).write_bytes(b'{"signature":"00"}\n')
        with pytest.raises(HeadraceError, match="is not what this key signed"):
            await signed(journal, tmp_path)

    async def test_two_who_sign_at_once_leave_it_to_one(self, journal: Journal, tmp_path: Path) -> None:
        await jobs(journal, 2)
        notaries = [Notary(tmp_path), Notary(tmp_path)]
        trail = Trail(journal.replays)
        span = await trail.span()
        made = [await notary.round(trail, span) for notary in notaries]
        assert made == [1, 0]
        both = await asyncio.gather(*(notary.round(trail, span) for notary in notaries))
        assert sum(both) == 0
        later = await a_job(journal)
        await copied(journal, later.chain.seq)
        span = await trail.span()
        assert sum(await asyncio.gather(*(notary.round(trail, span) for notary in notaries))) == 1
        assert not (await verified(journal, tmp_path)).findings
