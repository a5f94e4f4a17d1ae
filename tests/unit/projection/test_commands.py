"""What is typed about the list of jobs."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from actors.projection.commands import jobs


def test_a_folder_that_is_not_there_is_not_made_for_a_list_that_nobody_fills(tmp_path: Path) -> None:
    done = CliRunner().invoke(jobs, ["rebuild", "--data", str(tmp_path / "mistyped")])
    assert done.exit_code == 2
    assert "there is no folder" in done.output
    assert list(tmp_path.iterdir()) == []
