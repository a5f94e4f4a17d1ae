"""Celery's side over HTTP: an application that sends tasks and looks after their results, for each of its queues."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from ray import serve

from actors.runtime.deployment import http_application
from benchmarks.celery_app import TASK, celery_app
from benchmarks.pipelines import Ask
from benchmarks.task_front import DONE, FRONTS, Look, front

if TYPE_CHECKING:
    from celery import Celery


@dataclass(frozen=True, slots=True)
class CeleryTasks:
    """One queue."""

    app: Celery
    queue: str

    def send(self, ask: Ask) -> str:
        task: str = self.app.send_task(TASK, args=(ask.text, ask.tokens), queue=self.queue).id
        return task

    def look(self, task: str) -> Look:
        result = self.app.AsyncResult(task)
        state = result.state
        return Look(state=state, answer=result.result if state == DONE else None)


def build(url: str, queues: list[str]) -> FastAPI:
    """The application, made inside its replica."""
    app, celery = FastAPI(), celery_app(url)
    for queue in queues:
        app.mount(f"/{queue}", front(CeleryTasks(celery, queue)))
    return app


def application(url: str, queues: list[str]) -> serve.Application:
    """The same deployment, with the same options, as the ingress has."""
    return http_application("celery_tasks", partial(build, url, queues), replicas=FRONTS)
