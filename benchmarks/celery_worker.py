"""A Celery worker, as the command `celery worker` starts one.

`python -m benchmarks.celery_worker <orders as JSON>` ends when its standard input does.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from threading import Thread
from typing import Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.celery_app import TASK, celery_app
from benchmarks.engine_thread import EngineThread
from benchmarks.pipelines import unhurried

PREFETCHED = 4
"""Tasks that Celery takes by default for each that it works on."""


class Orders(BaseModel):
    """What a worker is told.

    `late` is whether a task is acknowledged once it is done, and given to another worker when its own is lost, with no
    task taken that cannot begin; else all that is as Celery has it by default.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    queue: str
    pool: Literal["threads", "prefork"]
    slots: int
    late: bool
    tally: Path


def work(orders: Orders) -> None:
    """Until it is told to end."""
    app, engine = celery_app(orders.url), EngineThread(unhurried(orders.slots, orders.tally))
    app.task(engine.answer, name=TASK, acks_late=orders.late, reject_on_worker_lost=orders.late)
    if not orders.late:
        app.conf.worker_prefetch_multiplier = PREFETCHED
    name = f"{orders.queue}-{os.getpid()}@%h"
    options = ["--pool", orders.pool, "--concurrency", str(orders.slots), "--loglevel", "CRITICAL"]
    app.worker_main(["--quiet", "worker", "--queues", orders.queue, "--hostname", name, *options])


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)  # not `sys.stdin.read`: a child that is forked meanwhile would wait for its lock
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module=r"celery\.platforms")  # whoever runs this may be root
    Thread(target=_end_with_input, daemon=True).start()
    work(Orders.model_validate_json(sys.argv[1]))
