"""What a run's checker finds wrong with webhooks: nothing of it may pass."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chaos.history import Entry
from tests.chaos.receiver import OF_THE_TENANT
from tests.chaos.told import told

WANTED = {("/job/k", "a"): "completed", (OF_THE_TENANT, "b"): "cancelled"}


def hook(path: str = "/job/k", job: str = "a", ended: str = "completed", **more: Any) -> Entry:
    body = json.dumps({"type": f"job.{ended}", "data": {"id": job, "status": ended}})
    return Entry(0.0, "hook", {"path": path, "id": f"msg_{job}", "body": body, "status": 200, "bad": "", **more})


B = hook(OF_THE_TENANT, "b", "cancelled")


def test_what_was_taken_in_the_end_is_well_however_often_it_was_tried() -> None:
    found = told([hook(status=500), hook(status=None), hook(status=302), hook(), hook(status=204), B], WANTED)
    assert (found.wrong, found.attempts, len(found.taken), found.doubled) == ([], 6, 2, 1)


@pytest.mark.parametrize(
    ("hooks", "wrong"),
    [
        ([B], "was never taken at /job/k, of 0 that were tried"),
        ([hook(status=500), hook(status=None), B], "was never taken at /job/k, of 1 that were tried"),
        ([hook(), hook(id="msg_other"), B], "in 2 ways"),
        ([hook(), hook(body=hook().said["body"] + " "), B], "in 2 ways"),
        ([hook(), B, hook(OF_THE_TENANT, "a")], "which nobody had asked for"),
        ([hook(), B, hook("/job/other")], "which nobody had asked for"),
        ([hook(), B, hook(ended="failed")], "job.failed (failed) was told at /job/k, and it is completed"),
        ([hook(), B, hook(bad="No matching signature found")], "does not verify"),
        ([hook(), hook(OF_THE_TENANT, "b", "cancelled", id="msg_a")], "it is the id of"),
    ],
)
def test_what_is_wrong_with_a_webhook_is_found(hooks: list[Entry], wrong: str) -> None:
    assert wrong in " ".join(what for _, what in told(hooks, WANTED).wrong)
