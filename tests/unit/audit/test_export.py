from __future__ import annotations

import hashlib
import json

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from actors.audit.export import cloud_event
from actors.contracts.events import NotAnEvent
from actors.journal.trail import Entry
from tests.records import JOB, START, Log


def an_entry() -> Entry:
    log = Log()
    log.hand_off()
    record = log.start("a")
    return Entry(17, START, "JOBS 6", record.data, record)


def test_the_cloudevents_library_reads_it() -> None:
    event = JSONFormat().read(CloudEvent, cloud_event(an_entry()))
    assert event.get_specversion() == "1.0"
    assert event.get_id() == f"{JOB}/2"
    assert event.get_source() == "/headrace/local"
    assert event.get_type() == "headrace.step.started"
    assert event.get_subject() == JOB
    time = event.get_time()
    assert time is not None
    assert time.isoformat() == "2026-11-23T12:00:02+00:00"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_extension("position") == "17"
    assert event.get_extension("lane") == "standard"
    assert event.get_data() == json.loads(an_entry().data)


def test_it_is_one_line_and_holds_the_stored_bytes() -> None:
    line = cloud_event(an_entry())
    assert "\n" not in line
    assert an_entry().data.decode() in line
    assert json.loads(line)["sha256"] == hashlib.sha256(an_entry().data).hexdigest()


def test_what_is_no_fact_is_refused() -> None:
    with pytest.raises(NotAnEvent, match="entry 3 is no copy of a fact"):
        cloud_event(Entry(3, START, "", b"{}", None))
