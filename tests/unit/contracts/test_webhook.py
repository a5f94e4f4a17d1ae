from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook

from actors.contracts.webhook import EVERYTHING, MOST_SECRETS, OVERLAP, SECRET_BYTES, Endpoint, Secrets, fits

NOW = datetime(2026, 11, 24, 9, 0, 0, 750_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("filters", "event", "wanted"),
    [
        (EVERYTHING, "job.completed", True),
        (EVERYTHING, "response.incomplete", True),
        (EVERYTHING, "webhook.test", False),
        (("job.*",), "response.completed", False),
        (("job.failed",), "job.failed", True),
        (("job.failed",), "job.failed_otherwise", False),
        (("jobs.*", "job.fail"), "job.failed", False),
        ((), "job.failed", False),
    ],
)
def test_a_filter_is_a_name_or_all_of_a_kind(filters: tuple[str, ...], event: str, wanted: bool) -> None:
    assert fits(filters, event) is wanted


def test_a_disabled_endpoint_wants_nothing() -> None:
    endpoint = Endpoint(url="https://a.example/", secrets=Secrets.new(), created=NOW)
    assert endpoint.wants("job.failed")
    assert not endpoint.model_copy(update={"disabled": NOW}).wants("job.failed")


def test_it_is_signed_as_the_reference_library_signs() -> None:
    secrets = Secrets.new()
    signed = secrets.sign("msg_a", '{"a":"ü"}', NOW)
    assert signed == Webhook(secrets.newest).sign("msg_a", NOW, '{"a":"ü"}')
    assert len(Webhook(secrets.newest)._whsecret) == SECRET_BYTES
    assert Secrets.new().newest != secrets.newest


def test_what_was_rotated_away_signs_for_a_day_beside_the_new_one() -> None:
    first = Secrets.new()
    second = first.rotated(NOW)
    third = second.rotated(NOW + OVERLAP / 2)
    assert first.old_until(NOW) is None
    assert (second.old_until(NOW), third.old_until(NOW)) == (NOW + OVERLAP, NOW + OVERLAP * 1.5)
    times = (NOW, NOW + OVERLAP - timedelta(seconds=1), NOW + OVERLAP, NOW + OVERLAP * 1.5)
    assert [len(third.sign("a", "b", at).split()) for at in times] == [3, 3, 2, 1]
    assert third.sign("a", "b", times[-1]) == Webhook(third.newest).sign("a", times[-1], "b")
    assert third.rotated(times[-1]).each[1:] == (third.each[0].model_copy(update={"until": times[-1] + OVERLAP}),)


def test_rotations_without_end_make_no_signature_without_end() -> None:
    secrets = Secrets.new()
    for _ in range(2 * MOST_SECRETS):
        secrets = secrets.rotated(NOW)
    assert len(secrets.sign("a", "b", NOW).split()) == MOST_SECRETS
