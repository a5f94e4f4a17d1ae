"""A tenant's name has one token that may stand in a subject."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.contracts.subjects import is_tenant
from actors.contracts.tenant import token_of

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)


@given(NAMES, NAMES)
def test_every_name_has_a_token_of_its_own(name: str, other: str) -> None:
    assert is_tenant(token_of(name))
    assert (token_of(name) == token_of(other)) == (name == other)


def test_a_name_that_can_stand_in_a_subject_does() -> None:
    assert token_of("acme") == "acme"
    assert token_of("local") == "local"
    assert token_of("acme-2") != "acme-2"


@pytest.mark.parametrize("name", ["", "Acme", "a b", "*", ">", "a\n", ".a", "é", "a" * 64])
def test_what_can_be_no_tenants_name_says_what_can(name: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        token_of(name)
