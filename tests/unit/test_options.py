from __future__ import annotations

from datetime import timedelta

import pytest

from actors.options import span


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("30m", timedelta(minutes=30)), ("12h", timedelta(hours=12)), ("99999d", timedelta(days=99_999))],
)
def test_a_length_of_time_is_typed_with_its_unit(typed: str, meant: timedelta) -> None:
    assert span(typed) == meant


@pytest.mark.parametrize("typed", ["", "30", "0d", "-1d", "1w", "1 d", "100000d", "1d2h", "٣d", "1d\n"])
def test_anything_else_is_none(typed: str) -> None:
    assert span(typed) is None
