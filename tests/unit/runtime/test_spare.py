from __future__ import annotations

from typing import Any

from actors.runtime.presence import WorkerStatus
from actors.runtime.spare import in_line


def a_worker(name: str, since: float, **more: Any) -> WorkerStatus:
    return WorkerStatus(**{"worker": name, "stage": "write", "state": "ready", "since": since, **more})


def test_who_came_first_works_first_and_all_agree_on_who_that_is() -> None:
    there = [a_worker("c", 3.0), a_worker("b", 1.0), a_worker("a", 3.0), a_worker("d", 2.0, role="spare")]
    assert in_line(there) == in_line(there[::-1]) == ["b", "d", "a", "c"]


def test_who_cannot_work_and_who_has_no_gpu_is_not_in_line() -> None:
    states = ("starting", "loading", "draining", "failed")
    there = [a_worker(state, 0.0, state=state) for state in states]
    assert in_line([*there, a_worker("cpu", 0.0, role="overflow"), a_worker("able", 9.0)]) == ["able"]
