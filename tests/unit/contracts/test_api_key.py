"""A key is known by what it says and by what is kept of it, and what is kept gives no key."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.contracts.api_key import ApiKey, digest_of, id_of, new_api_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def kept(text: str) -> ApiKey:
    return ApiKey(tenant="acme", digest=digest_of(text), created=NOW)


def test_a_key_looks_as_scanners_for_leaks_expect_and_says_its_id() -> None:
    new = new_api_key()
    assert re.fullmatch(r"hrk_[a-z2-7]{10}_[a-z2-7]{46}", new.text)
    assert id_of(new.text) == new.id
    assert len({new_api_key().text for _ in range(200)}) == 200


def test_a_key_with_one_letter_changed_is_none_without_being_looked_up() -> None:
    text = new_api_key().text
    for place in range(len(text)):
        other = "b" if text[place] != "b" else "c"
        changed = text[:place] + other + text[place + 1 :]
        assert id_of(changed) is None
        assert not kept(text).fits(changed)


@given(st.text())
def test_any_text_may_be_shown_for_a_key(text: str) -> None:
    assert id_of(text) is None
    assert not kept(new_api_key().text).fits(text)
    assert not kept(new_api_key().text).proves("that", text)


def test_what_is_kept_of_a_key_is_not_the_key() -> None:
    text = new_api_key().text
    key = kept(text)
    assert key.fits(text)
    assert text.rpartition("_")[2] not in key.model_dump_json()


def test_a_key_is_good_until_it_is_revoked_or_expires() -> None:
    key = kept("x")
    assert key.is_good(NOW)
    assert not key.model_copy(update={"revoked": NOW}).is_good(NOW)
    late = key.model_copy(update={"expires": NOW + timedelta(seconds=1)})
    assert late.is_good(NOW)
    assert not late.is_good(NOW + timedelta(seconds=1))


@pytest.mark.parametrize("said", ["that", "this!", ""])
def test_a_signature_proves_what_was_said_with_this_key_and_nothing_else(said: str) -> None:
    key, other = kept("x"), kept("y")
    assert key.proves("this", key.sign("this"))
    assert not key.proves(said, key.sign("this"))
    assert not other.proves("this", key.sign("this"))
