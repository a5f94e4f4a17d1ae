"""`headrace keys …`, typed against a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def typed(*arguments: str, data: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """What `headrace keys` says to this."""
    program = "import sys; from actors.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, "keys", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HEADRACE_DATA": str(data)},
    )
    assert done.returncode == status, done.stderr
    return done


def test_a_key_is_made_before_anything_was_started_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    assert "there is no log in" in typed("list", data=tmp_path, status=1).stderr
    made = typed("create", "--tenant", "acme-2", "--name", "reports", "--expires", "90d", data=tmp_path)
    key = made.stdout.strip()
    assert re.fullmatch(r"hrk_[a-z2-7]{10}_[a-z2-7]{46}", key)
    told = json.loads(typed("create", "--operator", "--json", data=tmp_path).stdout)
    assert (told["tenant"], told["operator"]) == ("local", True)
    listed = typed("list", "--json", data=tmp_path).stdout
    assert key not in listed
    assert "digest" not in listed
    first, second = json.loads(listed)
    assert (first["tenant"], first["name"], first["state"], first["operator"]) == ("acme-2", "reports", "good", False)
    assert (second["id"], second["operator"], second["expires"]) == (told["id"], True, None)
    typed("revoke", key, data=tmp_path)
    typed("revoke", first["id"], data=tmp_path)
    assert [one["state"] for one in json.loads(typed("list", "--json", data=tmp_path).stdout)] == ["revoked", "good"]
    assert "there is no key" in typed("revoke", "a" * 10, data=tmp_path, status=1).stderr


def test_what_cannot_be_done_about_keys_says_what_can(tmp_path: Path) -> None:
    for arguments, says in (
        (["create"], "say whose key it is"),
        (["create", "--tenant", "A B"], "small letters"),
        (["create", "--tenant", "a", "--expires", "soon"], "90d"),
        (["revoke", "?"], "headrace keys list"),
    ):
        said = " ".join(typed(*arguments, data=tmp_path, status=2).stderr.split())
        assert says in said, said
    assert list(tmp_path.iterdir()) == []
