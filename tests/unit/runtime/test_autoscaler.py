from __future__ import annotations

import gc
import logging
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from actors.runtime.autoscaler import Autoscaler

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

RULE = {"min": 0, "max": 4, "lag_per_replica": 8, "concurrency": 8, "max_wait": 30.0, "down_after": 60.0}
NOBODY = "nats://127.0.0.1:9"


def a_context(target: int) -> AutoscalingContext:
    return cast("AutoscalingContext", SimpleNamespace(target_num_replicas=target))


def lookouts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lookout-write"]


def test_it_never_raises_whatever_is_wrong_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    autoscaler = Autoscaler("write", {"nonsense": 1})
    with caplog.at_level(logging.ERROR):
        assert [autoscaler(a_context(3)) for _ in range(5)] == [(3, {})] * 5
    assert [record.getMessage() for record in caplog.records] == ["cannot decide on a stage's replicas"]


def test_it_holds_while_nothing_is_known_and_looks_no_longer_than_serve_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADRACE_NATS_URL", NOBODY)
    autoscaler = Autoscaler("write", RULE)
    assert [autoscaler(a_context(target)) for target in (0, 2, 2, 5)] == [(0, {}), (2, {}), (2, {}), (5, {})]
    (lookout,) = lookouts()
    del autoscaler
    gc.collect()
    lookout.join(timeout=10)
    assert not lookout.is_alive()
