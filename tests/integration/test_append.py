"""Compare and append, on one server and on a cluster of three."""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

import actors
from actors.contracts.subjects import Address, Kind
from actors.journal import Appender, Journal, Link, Refused, TooLarge, Unanswered, Undecided
from actors.journal.append import MAX_DEAD_LETTER, MAX_MESSAGE, NotStored
from actors.journal.topology import JOBS
from tests.integration.conftest import opened
from tests.lossy import relay
from tests.nats_servers import Servers
from tests.scribe import new_address

BACKSTOP_S = 30.0


async def stored(journal: Journal, address: Address) -> list[bytes]:
    """What the log has of a job, as its leader knows it."""
    last = await journal.reader.last(address.tenant, address.job)
    records = await journal.reader.job(address.tenant, address.job, at_least=last.seq if last else 0)
    return [record.data for record in records]


async def message_headers(journal: Journal, seq: int) -> str:
    found = await journal.signals.api(f"STREAM.MSG.GET.{JOBS}", {"seq": seq})
    return base64.b64decode(found["message"]["hdrs"]).decode()


async def once_or_refused_by_itself(journal: Journal, address: Address, data: bytes) -> int:
    """Append as a writer does: a refusal counts as stored if what is there is what it said."""
    try:
        return await journal.appender.append(address, "job", "write", data, expect=0)
    except Refused as refused:
        assert await stored(journal, address) == [data]
        return refused.last


async def test_the_first_append_of_a_job_creates_it_and_the_second_is_refused(journal: Journal) -> None:
    address = new_address()
    seq = await journal.appender.append(address, "job", "write", b"one", expect=0)
    assert seq > 0
    with pytest.raises(Refused) as refused:
        await journal.appender.append(address, "job", "write", b"two", expect=0)
    assert refused.value.last == seq
    assert await stored(journal, address) == [b"one"]


async def test_of_fifty_racing_creates_one_is_stored(journal: Journal) -> None:
    address = new_address()
    creates = (journal.appender.append(address, "job", "write", b"%d" % i, expect=0) for i in range(50))
    results = await asyncio.gather(*creates, return_exceptions=True)
    made = [(i, r) for i, r in enumerate(results) if isinstance(r, int)]
    refused = [r for r in results if isinstance(r, Refused)]
    assert len(made) == 1
    assert len(refused) == 49
    winner, seq = made[0]
    assert {r.last for r in refused} == {seq}
    assert await stored(journal, address) == [b"%d" % winner]


async def test_of_racing_appends_to_a_job_never_both_are_stored(journal: Journal) -> None:
    address = new_address()
    last = await journal.appender.append(address, "job", "write", b"0", expect=0)
    for turn in range(1, 20):
        kinds: list[tuple[Kind, str]] = [("job", "step"), ("text", "write"), ("job", "done"), ("job", "write")]
        racing = (journal.appender.append(address, kind, topic, b"%d" % turn, expect=last) for kind, topic in kinds)
        results = await asyncio.gather(*racing, return_exceptions=True)
        made = [r for r in results if isinstance(r, int)]
        assert len(made) == 1
        assert {r.last for r in results if isinstance(r, Refused)} == set(made)
        last = made[0]
    assert await stored(journal, address) == [b"%d" % turn for turn in range(20)]


async def test_jobs_do_not_stand_in_each_others_way(journal: Journal) -> None:
    addresses = [new_address() for _ in range(50)]
    made = await asyncio.gather(*(journal.appender.append(a, "job", "write", b"x", expect=0) for a in addresses))
    assert len(set(made)) == 50


async def test_every_subject_of_a_job_counts_as_its_last(journal: Journal) -> None:
    address = new_address()
    first = await journal.appender.append(address, "job", "write", b"1", expect=0)
    said = await journal.appender.append(address, "text", "write", b"2", expect=first, ttl=60)
    with pytest.raises(Refused) as refused:
        await journal.appender.append(address, "job", "done", b"3", expect=first)
    assert refused.value.last == said
    with pytest.raises(Refused):
        await journal.appender.append(address, "job", "done", b"3", expect=said + 1)
    await journal.appender.append(address, "job", "done", b"3", expect=said)
    assert await stored(journal, address) == [b"1", b"2", b"3"]


async def test_an_append_carries_the_one_spelling_of_the_filter_and_how_long_it_is_kept(journal_r1: Journal) -> None:
    address = new_address()
    first = await journal_r1.appender.append(address, "job", "write", b"1", expect=0)
    text = await journal_r1.appender.append(address, "text", "write", b"2", expect=first, ttl=60)
    dead = await journal_r1.appender.append(address, "job", "dead", b"3", expect=text, ttl=-1)
    spelled = f"Nats-Expected-Last-Subject-Sequence-Subject: *.*.*.{address.tenant}.{address.job}\r\n"
    raw = [await message_headers(journal_r1, seq) for seq in (first, text, dead)]
    assert all(spelled in headers for headers in raw)
    assert [f"Sequence: {expect}\r\n" in headers for headers, expect in zip(raw, (0, first, text), strict=True)] == [
        True
    ] * 3
    assert ["Nats-TTL" in headers for headers in raw] == [False, True, True]
    assert "Nats-TTL: 60s\r\n" in raw[1]
    assert "Nats-TTL: never\r\n" in raw[2]
    assert not any("Nats-Msg-Id" in headers for headers in raw)


async def test_another_append_in_flight_on_a_cluster_is_waited_for(journal_r3: Journal) -> None:
    """On a cluster a race is answered 10164 without a number; nobody outside the append hears of it."""
    answers: list[dict[str, Any]] = []
    real = journal_r3.appends.request

    async def request(*args: Any, **kwargs: Any) -> Any:
        answer = await real(*args, **kwargs)
        answers.append(json.loads(answer.data))
        return answer

    journal_r3.appends.request = request  # type: ignore[method-assign]
    address = new_address()
    creates = (journal_r3.appender.append(address, "job", "write", b"%d" % i, expect=0) for i in range(20))
    results = await asyncio.gather(*creates, return_exceptions=True)
    codes = [answer.get("error", {}).get("err_code") for answer in answers]
    assert 10164 in codes
    assert sum(isinstance(r, int) for r in results) == 1
    assert sum(isinstance(r, Refused) for r in results) == 19


async def test_an_answer_that_got_lost_is_a_refusal_by_the_writers_own_message(r1: Servers) -> None:
    async with opened(r1) as journal, relay(r1.url) as wire:
        link = await Link.open([wire.url], "lossy")
        appender, address = Appender(link, Random(1)), new_address()
        wire.deaf = True
        append = asyncio.create_task(appender.append(address, "job", "write", b"one", expect=0))
        async with asyncio.timeout(BACKSTOP_S):
            await wire.lost.wait()
        assert await stored(journal, address) == [b"one"]
        wire.deaf = False
        wire.cut()
        with pytest.raises(Refused) as refused:
            async with asyncio.timeout(BACKSTOP_S):
                await append
        assert [r.data for r in await journal.reader.job(address.tenant, address.job)] == [b"one"]
        last = await journal.reader.last(address.tenant, address.job)
        assert last is not None
        assert last.seq == refused.value.last
        await link.close()


async def test_appends_under_way_when_the_server_is_killed_are_each_stored_once(servers: Servers) -> None:
    async with opened(servers) as journal:
        leader = await servers.leader_of(JOBS)
        seqs: dict[Address, int] = {}
        enough = asyncio.Event()

        async def keep_appending() -> None:
            for address in [new_address() for _ in range(40)]:
                seqs[address] = await once_or_refused_by_itself(journal, address, address.job.encode())
                if len(seqs) >= 50:
                    enough.set()

        async with asyncio.timeout(BACKSTOP_S), asyncio.TaskGroup() as writers:
            for _ in range(8):
                writers.create_task(keep_appending())
            await enough.wait()
            await servers.kill(leader)
            assert len(seqs) < 320, "the kill came too late to be one"
            await servers.start(leader)
        assert len(set(seqs.values())) == 320
        for address in seqs:
            assert await stored(journal, address) == [address.job.encode()]


async def test_an_append_that_a_frozen_server_never_answers_is_stored_once_after_its_restart(r1: Servers) -> None:
    async with opened(r1) as journal:
        address = new_address()
        r1.freeze()
        append = asyncio.create_task(once_or_refused_by_itself(journal, address, b"one"))
        done, _ = await asyncio.wait([append], timeout=0.1)
        assert not done
        await r1.kill()
        await r1.start()
        async with asyncio.timeout(BACKSTOP_S):
            seq = await append
        assert await stored(journal, address) == [b"one"]
        last = await journal.reader.last(address.tenant, address.job)
        assert last is not None
        assert last.seq == seq


async def test_without_a_connection_an_append_ends_undecided_and_is_not_stored_later(r1: Servers) -> None:
    async with opened(r1) as journal:
        address = new_address()
        await r1.kill()
        await _down(journal.appends)
        with pytest.raises(Undecided):
            await journal.appender.append(address, "job", "write", b"one", expect=0, patience=0.05)
        await r1.start()
        await journal.appends.wait_until_up()
        await journal.replays.wait_until_up()
        await journal.appends.request("$JS.API.INFO")  # everything that this connection held back is through before it
        assert await stored(journal, address) == []
        assert await journal.appender.append(address, "job", "write", b"two", expect=0) > 0


async def test_giving_up_on_an_append_that_is_stored_later_harms_nobody(r1: Servers) -> None:
    """What was sent before the drop may still be stored, but only where its writer's knowledge is still right."""
    async with opened(r1) as journal:
        mine, theirs = new_address(), new_address()
        r1.freeze()
        for address in (mine, theirs):
            with pytest.raises(Undecided):
                await journal.appender.append(address, "job", "write", b"given up", expect=0, patience=0.05)
        r1.thaw()
        await journal.appends.request("$JS.API.INFO")
        assert await stored(journal, mine) == [b"given up"]
        assert await once_or_refused_by_itself(journal, mine, b"given up") > 0
        with pytest.raises(Refused):
            await journal.appender.append(theirs, "job", "write", b"another", expect=0)
        assert await stored(journal, theirs) == [b"given up"]


async def test_an_append_without_patience_waits_for_the_server_to_come_back(r1: Servers) -> None:
    async with opened(r1) as journal:
        address = new_address()
        await r1.kill()
        append = asyncio.create_task(journal.appender.append(address, "job", "write", b"one", expect=0))
        done, _ = await asyncio.wait([append], timeout=0.2)
        assert not done
        await r1.start()
        async with asyncio.timeout(BACKSTOP_S):
            assert await append > 0
        assert await stored(journal, address) == [b"one"]


async def test_a_full_log_is_waited_for(journal_r1: Journal) -> None:
    await journal_r1.signals.api(f"STREAM.DELETE.{JOBS}")
    small = {"name": JOBS, "subjects": ["job.*.*.*.*"], "discard": "new", "max_bytes": 3_000, "storage": "file"}
    await journal_r1.signals.api(f"STREAM.CREATE.{JOBS}", small)
    full, address = new_address(), new_address()
    await journal_r1.appender.append(full, "job", "write", b"x" * 2_000, expect=0)
    with pytest.raises(Undecided, match="maximum bytes"):
        await journal_r1.appender.append(address, "job", "write", b"y" * 2_000, expect=0, patience=0.3)
    append = asyncio.create_task(journal_r1.appender.append(address, "job", "write", b"y" * 2_000, expect=0))
    await journal_r1.signals.api(f"STREAM.PURGE.{JOBS}")
    async with asyncio.timeout(BACKSTOP_S):
        assert await append > 0


async def test_without_the_log_an_append_waits(journal_r1: Journal) -> None:
    await journal_r1.signals.api(f"STREAM.DELETE.{JOBS}")
    with pytest.raises(Undecided):
        await journal_r1.appender.append(new_address(), "job", "write", b"x", expect=0, patience=0.2)


async def test_a_log_that_cannot_keep_the_message_says_so_at_once(journal_r1: Journal) -> None:
    await journal_r1.signals.api(f"STREAM.DELETE.{JOBS}")
    await journal_r1.signals.api(f"STREAM.CREATE.{JOBS}", {"name": JOBS, "subjects": ["job.*.*.*.*"]})
    with pytest.raises(NotStored):
        await journal_r1.appender.append(new_address(), "job", "write", b"x", expect=0, ttl=60)


async def test_a_message_over_the_limit_is_not_stored(journal_r1: Journal) -> None:
    address = new_address()
    with pytest.raises(TooLarge, match=r"1,048,577 bytes; the limit is 1,048,576"):
        await journal_r1.appender.append(address, "job", "write", b"x" * (MAX_MESSAGE + 1), expect=0)
    assert await stored(journal_r1, address) == []
    last = await journal_r1.appender.append(address, "job", "write", b"x" * MAX_MESSAGE, expect=0)
    with pytest.raises(TooLarge, match=r"the limit is 1,900,000"):
        await journal_r1.appender.append(address, "job", "dead", b"x" * (MAX_DEAD_LETTER + 1), expect=last)
    await journal_r1.appender.append(address, "job", "dead", b"x" * MAX_DEAD_LETTER, expect=last)


@pytest.mark.parametrize("field", ["lane", "tenant", "job", "kind", "topic"])
@pytest.mark.parametrize("value", ["", "*", ">", "a.b", "a b", "a\r\nPUB x 1\r\ny"])
async def test_nothing_but_tokens_reaches_a_subject(journal_r1: Journal, field: str, value: str) -> None:
    address = new_address()
    given: dict[str, Any] = {
        "lane": address.lane,
        "tenant": address.tenant,
        "job": address.job,
        "kind": "job",
        "topic": "x",
    }
    given[field] = value
    with pytest.raises(ValueError, match="is not <"):
        await journal_r1.appender.append(
            Address(given["lane"], given["tenant"], given["job"]), given["kind"], given["topic"], b"x", expect=0
        )


def test_only_the_append_publishes_into_the_log() -> None:
    """One plain publish, or a second spelling of the filter, would be stored beside a compared one on a cluster."""
    root = Path(actors.__file__).parent
    senders = {"publish", "request", "request_many", "send", "gather", "answer", "flush"}
    for path in sorted(root.rglob("*.py")):
        code, name = path.read_text(), str(path.relative_to(root))
        if name == "journal/append.py":
            continue
        assert "Nats-Expected" not in code or name == "journal/shelf.py", name  # what people set is no log
        assert "Nats-Msg-Id" not in code, name
        for node in ast.walk(ast.parse(code)):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called != "publish" or name == "journal/connection.py", f"{name}:{node.lineno} publishes"
            assert called != "Subject" or name == "contracts/subjects.py", f"{name}:{node.lineno} makes a subject"
            if called in senders and node.args:
                subject = ast.unparse(node.args[0]).lstrip("f").strip("'\"")
                assert not subject.startswith(("job.", "text.")), f"{name}:{node.lineno} sends to {subject}"


async def _down(link: Link) -> None:
    """Wait until a connection knows that it is down."""
    async with asyncio.timeout(BACKSTOP_S):
        while link.is_up:
            with contextlib.suppress(Unanswered):
                await link.request("$JS.API.INFO")
