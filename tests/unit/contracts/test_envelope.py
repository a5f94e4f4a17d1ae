from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.contracts.envelope import VERSION, Envelope, Fact

AT = datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC)


def test_an_envelope_says_version_number_kind_writer_and_time() -> None:
    envelope = Envelope(n=3, kind="progress", by="write-1/abc", at=AT)
    assert envelope.encode() == b'{"v":1,"n":3,"kind":"progress","by":"write-1/abc","at":1795437015.123456}'
    assert VERSION == 1


def test_a_fact_also_says_what_it_follows() -> None:
    assert b'"prev":"abc"' in Fact(n=3, kind="x", by="clock/1", at=AT, prev="abc").encode()


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_a_time_keeps_its_microseconds(at: datetime) -> None:
    once = Envelope(n=1, kind="x", by="y", at=at)
    again = Envelope.model_validate_json(once.encode())
    assert again.at == at
    assert again.encode() == once.encode()


def test_a_time_of_any_zone_is_stored_in_utc() -> None:
    here = AT.astimezone(timezone(timedelta(hours=-7)))
    assert Envelope(n=1, kind="x", by="y", at=here).encode() == Envelope(n=1, kind="x", by="y", at=AT).encode()


@pytest.mark.parametrize("at", ["1e300", "-1e300", "Infinity", "NaN", "true", '"soon"', "null", "[]"])
def test_a_time_that_is_none_is_refused(at: str) -> None:
    with pytest.raises(ValidationError):
        Envelope.model_validate_json(b'{"v":1,"n":1,"kind":"x","by":"y","at":%s}' % at.encode())


def test_fields_of_a_newer_version_are_passed_over() -> None:
    read = Envelope.model_validate_json(b'{"v":1,"n":1,"kind":"x","by":"y","at":1.5,"mood":"good","more":{"a":[1]}}')
    assert (read.n, read.at) == (1, datetime(1970, 1, 1, 0, 0, 1, 500000, tzinfo=UTC))


def test_an_envelope_does_not_change() -> None:
    envelope = Envelope(n=1, kind="x", by="y", at=AT)
    with pytest.raises(ValidationError):
        envelope.n = 2
