"""A server is started again once there is more room than when it stopped, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.journal.disk import MIN_FREE, Freeze, free


@pytest.mark.parametrize("left", [0, 1 << 20, 10 << 30])
def test_a_freeze_is_over_when_room_was_made_and_not_because_there_is_some(left: int) -> None:
    freeze = Freeze(left)
    assert not freeze.is_over(left)
    assert not freeze.is_over(left + MIN_FREE - 1)
    assert freeze.is_over(left + MIN_FREE)


def test_where_there_is_no_folder_nothing_is_free(tmp_path: Path) -> None:
    assert free(tmp_path) > 0
    assert free(tmp_path / "gone") == 0
