from __future__ import annotations

from datetime import UTC, datetime

import pytest

from actors.http.egress import Answer
from actors.postman import MOST_WAIT_S, asked_to_wait

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        ("Tue, 24 Nov 2026 09:02:00 GMT", 120.0),
        ("Tue, 24 Nov 2026 08:00:00 GMT", 0.0),
        ("99999999999", MOST_WAIT_S),
        (f"Tue, 24 Nov 2026 09:02:00 +{'9' * 20}", 0.0),
        (f"Tue, 24 Nov {'9' * 20} 09:02:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MOST_WAIT_S),
        ("-1", 0.0),
        ("soon", 0.0),
        ("²", 0.0),
        ("", 0.0),
    ],
)
def test_a_receiver_says_in_seconds_or_by_a_date_how_long_it_wants_to_be_left_alone(said: str, seconds: float) -> None:
    assert asked_to_wait(Answer(429, {"retry-after": said}), NOW) == seconds


def test_without_an_answer_nobody_asks_for_a_pause() -> None:
    assert asked_to_wait(None, NOW) == 0.0
    assert asked_to_wait(Answer(503), NOW) == 0.0
