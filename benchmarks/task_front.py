"""HTTP in front of a queue of tasks: a POST puts one into it, a GET says whether it is done."""

from __future__ import annotations

from typing import Protocol

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.echo import Body
from benchmarks.pipelines import Ask

FRONTS = 2
"""Processes of each front: as many as Headrace has for HTTP, one that takes jobs and one that tells of them."""

DONE, FAILED = "SUCCESS", "FAILURE"
"""What Celery calls a task that has ended."""


class Sent(BaseModel):
    """The task that a question has become."""

    id: str


class Look(BaseModel):
    """A task's state in Celery's words, and its answer once it has one."""

    state: str
    answer: str | None = None


class Tasks(Protocol):
    """A queue as its own library has it. Both calls wait for its server."""

    def send(self, ask: Ask) -> str:
        """The id of a new task, once the server has it."""
        ...

    def look(self, task: str) -> Look: ...


def front(tasks: Tasks) -> FastAPI:
    """The application. Its handlers are plain functions, as for any library that waits: each runs in a thread."""
    app = FastAPI()

    @app.post("/", status_code=202)
    def send(body: Body) -> Sent:
        return Sent(id=tasks.send(body.input))

    @app.get("/{task}")
    def look(task: str) -> Look:
        return tasks.look(task)

    return app
