"""`headrace keys …`, typed against a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from actors.cli import main


class Said(NamedTuple):
    """What a command has said."""

    stdout: str
    stderr: str


Typed = Callable[..., Said]


@pytest.fixture
def typed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Types a command about the keys of this test's folder."""
    monkeypatch.setenv("HEADRACE_DATA", str(tmp_path))

    def type_it(*arguments: str, status: int = 0) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(["keys", *arguments])
        said = Said(*capsys.readouterr())
        assert ended.value.code == status, said.stderr
        return said

    return type_it


def test_a_key_is_made_before_anything_was_started_shown_once_listed_and_revoked(typed: Typed) -> None:
    assert "there is no log in" in typed("list", status=1).stderr
    made = typed("create", "--tenant", "acme-2", "--name", "reports", "--expires", "90d")
    key = made.stdout.strip()
    assert re.fullmatch(r"hrk_[a-z2-7]{10}_[a-z2-7]{46}", key)
    told = json.loads(typed("create", "--operator", "--json").stdout)
    assert (told["tenant"], told["operator"]) == ("local", True)
    listed = typed("list", "--json").stdout
    assert key not in listed
    assert "digest" not in listed
    first, second = json.loads(listed)
    assert (first["tenant"], first["name"], first["state"], first["operator"]) == ("acme-2", "reports", "good", False)
    assert (second["id"], second["operator"], second["expires"]) == (told["id"], True, None)
    typed("revoke", key)
    typed("revoke", first["id"])
    assert [one["state"] for one in json.loads(typed("list", "--json").stdout)] == ["revoked", "good"]
    assert "there is no key" in typed("revoke", "a" * 10, status=1).stderr


def test_what_cannot_be_done_about_keys_says_what_can(typed: Typed, tmp_path: Path) -> None:
    for arguments, says in (
        (["create"], "say whose key it is"),
        (["create", "--tenant", "A B"], "small letters"),
        (["create", "--tenant", "a", "--expires", "soon"], "90d"),
        (["revoke", "?"], "headrace keys list"),
    ):
        said = " ".join(typed(*arguments, status=2).stderr.split())
        assert says in said, said
    assert list(tmp_path.iterdir()) == []
