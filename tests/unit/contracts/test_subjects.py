from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.contracts import subjects
from actors.contracts.subjects import (
    LANES,
    LOCAL,
    RESERVED,
    SHARES,
    Address,
    Kind,
    Queue,
    Subject,
    is_job,
    is_tenant,
    is_topic,
    job_filter,
    job_id,
    new_key,
    worker_subject,
    workers_subject,
)

JOB = job_id(LOCAL, "key")
TOKEN = re.compile(r"[A-Za-z0-9_-]+")

NOT_TOKENS = [
    "",
    " ",
    ".",
    "*",
    ">",
    "a.b",
    "a b",
    "a\n",
    "\n",
    "a\x00",
    "Ä",
    "a*",
    "é" * 3,
    "\ud800",
    "a\r\nPUB x 1",
    "-" * 300,
]


def test_a_subject_reads_as_it_was_written() -> None:
    subject = Subject("text", "write", "batch", LOCAL, JOB)
    assert str(subject) == f"text.write.batch.local.{JOB}"
    assert Subject.parse(str(subject)) == subject
    assert subject.address == Address("batch", LOCAL, JOB)


def test_the_filter_of_a_job_has_one_spelling() -> None:
    assert Address("interactive", LOCAL, JOB).filter == job_filter(LOCAL, JOB) == f"*.*.*.local.{JOB}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"job.write.standard.local.{JOB}.more",
        f"job.write.standard.{JOB}",
        f"audit.write.standard.local.{JOB}",
        f"job.write.slow.local.{JOB}",
        f"job.write.standard-00.local.{JOB}",
        f"job.write.standard-7.local.{JOB}",
        f"job.write.standard-99.local.{JOB}",
        f"job..standard.local.{JOB}",
        f"job.*.standard.local.{JOB}",
        f"job.Write.standard.local.{JOB}",
        f"job.write.standard.*.{JOB}",
        "job.write.standard.local.>",
        "job.write.standard.local.short",
        f"live.job.write.standard.local.{JOB}",
    ],
)
def test_what_is_no_subject_of_the_log_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="<kind>"):
        Subject.parse(text)


@pytest.mark.parametrize("topic", [*sorted(RESERVED), "write", "write_2", "a", "a" * 63])
def test_a_message_can_lie_on_every_topic_of_ours_and_of_stages(topic: str) -> None:
    assert Subject.parse(f"job.{topic}.standard.local.{JOB}").topic == topic


@pytest.mark.parametrize("name", ["write", "write_2", "a", "a" * 63])
def test_a_stage_may_be_called(name: str) -> None:
    assert is_topic(name)


@pytest.mark.parametrize(
    "name", [*sorted(RESERVED), *NOT_TOKENS, "2write", "_write", "Write", "wri-te", "a" * 64, "write\n"]
)
def test_a_stage_may_not_be_called(name: str) -> None:
    assert not is_topic(name)


@pytest.mark.parametrize("name", [*NOT_TOKENS, "A", "0x", "tenant\n"])
def test_a_tenant_is_hex_or_base32(name: str) -> None:
    assert not is_tenant(name)
    assert is_tenant(LOCAL)
    assert is_tenant("0123456789abcdef")
    assert is_tenant(new_key())


@pytest.mark.parametrize("name", [*NOT_TOKENS, JOB.upper(), JOB + "a", JOB[:-1], JOB + "\n", "1" * 26])
def test_a_job_id_is_26_characters_of_base32(name: str) -> None:
    assert not is_job(name)
    assert is_job(JOB)


@given(st.sampled_from(["kind", "topic", "lane", "tenant", "job"]), st.text() | st.sampled_from(NOT_TOKENS))
def test_whatever_reaches_a_subject_is_a_token(field: str, value: str) -> None:
    parts: dict[str, Any] = {"kind": "job", "topic": "write", "lane": "standard", "tenant": LOCAL, "job": JOB}
    with suppress(ValueError):
        tokens = str(Subject(**{**parts, field: value})).split(".")
        assert len(tokens) == 5
        assert all(TOKEN.fullmatch(token) for token in tokens)


@given(st.sampled_from(["lane", "tenant", "job"]), st.text() | st.sampled_from(NOT_TOKENS))
def test_a_filter_holds_exactly_one_job(field: str, value: str) -> None:
    parts: dict[str, Any] = {"lane": "standard", "tenant": LOCAL, "job": JOB}
    with suppress(ValueError):
        tokens = Address(**{**parts, field: value}).filter.split(".")
        assert tokens[:3] == ["*", "*", "*"]
        assert len(tokens) == 5
        assert all(TOKEN.fullmatch(token) for token in tokens[3:])


@given(st.text())
def test_what_parses_is_spelled_as_it_was_read(text: str) -> None:
    with suppress(ValueError):
        assert str(Subject.parse(text)) == text


@given(st.text(), st.text())
def test_any_idempotency_key_makes_a_job_id(tenant: str, key: str) -> None:
    assert is_job(job_id(tenant, key))
    assert job_id(tenant, key) == job_id(tenant, key)


@given(st.text(alphabet=st.characters(codec="ascii")), st.text(alphabet=st.characters(codec="ascii")))
def test_tenants_with_the_same_key_have_jobs_of_their_own(key: str, other: str) -> None:
    assert job_id("local", key) != job_id("other", key)
    assert (job_id("local", key) == job_id("local", other)) == (key == other)


def test_a_lone_surrogate_in_a_key_is_a_key_too() -> None:
    assert job_id(LOCAL, "\ud800") != job_id(LOCAL, "\udfff")


def test_keys_of_ours_do_not_repeat() -> None:
    assert len({new_key() for _ in range(1_000)}) == 1_000


def test_a_consumer_sees_the_hand_offs_of_one_stage_and_share_of_a_lane() -> None:
    assert {Queue("write", lane).handoffs for lane in LANES} == {f"job.write.{lane}.>" for lane in LANES}
    assert Queue("write", "batch", 7).handoffs == "job.write.batch-07.>"
    every = [Queue(s, lane, n) for s in ("write", "write_2") for lane in LANES for n in range(SHARES + 1)]
    assert len({queue.consumer for queue in every}) == len(every)
    assert [Queue.parse(queue.consumer) for queue in every] == every
    assert [
        Queue.parse(name) for name in ("", "write", "write-slow", "step-batch", "write-batch-00", "a-batch-99")
    ] == [None] * 6


def test_a_job_keeps_its_share_in_all_its_subjects() -> None:
    subject = Address("batch", LOCAL, JOB, 7).subject("text", "write")
    assert str(subject) == f"text.write.batch-07.local.{JOB}"
    assert Subject.parse(str(subject)).address == Address("batch", LOCAL, JOB, 7)
    assert Subject.parse(str(subject)).address.filter == job_filter(LOCAL, JOB)
    assert Subject.parse(str(subject)).queue is None
    assert Address("batch", LOCAL, JOB, 7).subject("job", "write").queue == Queue("write", "batch", 7)
    assert Address("batch", LOCAL, JOB).subject("job", "done").queue is None


def test_names_of_the_log_are_what_they_were() -> None:
    assert get_args(Kind) == ("job", "text")
    assert LANES == ("interactive", "standard", "batch")
    assert {"step", "done", "dead", "ask", "later", "review"} == RESERVED
    assert subjects.LIVE == "live."
    assert worker_subject("write-1a2b") == "worker.write-1a2b"
    assert workers_subject("write") == "workers.write"
