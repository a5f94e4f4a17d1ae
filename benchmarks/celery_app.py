"""Celery as it is set here, at both ends: what its documentation says for tasks that take long, over Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic import JsonValue

from actors.journal.topology import ACK_WAIT_S

if TYPE_CHECKING:
    from celery import Celery

TASK = "answer"

QUEUE = "ray"
"""The queue of Ray's consumers; Celery's own are named by who asks for workers."""

TRANSPORT = {"visibility_timeout": int(ACK_WAIT_S), "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
"""A task that nobody has acknowledged after the time that is a lease here is given to another worker; they look every
second. The defaults are an hour, and 100 s. Unlike a lease it is not renewed: a task that takes longer runs twice.
"""

SETTINGS: dict[str, JsonValue] = {
    "worker_prefetch_multiplier": 1,
    "broker_pool_limit": 40,
    "result_backend_thread_safe": True,
    "result_backend_transport_options": {"visibility_timeout": int(ACK_WAIT_S)},
}
"""No task is taken that cannot begin. A front has as many connections as FastAPI has threads, which share one backend:
each would have its own by default, and its first request would wait until that is connected.
"""

READY_S = 120.0
LOOK_EVERY_S = 0.1


def celery_app(url: str) -> Celery:
    """An application whose broker and result backend is this server."""
    from celery import Celery

    app = Celery("benchmark", broker=url, backend=url)
    app.conf.update(SETTINGS, broker_transport_options=TRANSPORT)
    return app


async def until_ready(url: str, name: str, workers: int) -> None:
    """Until just so many workers answer whose names begin so."""
    app = celery_app(url)
    async with asyncio.timeout(READY_S):
        while len(await asyncio.to_thread(_answering, app, name)) != workers:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)


def _answering(app: Celery, name: str) -> list[str]:
    return [worker for answer in app.control.ping(timeout=1.0) for worker in answer if worker.startswith(name)]
