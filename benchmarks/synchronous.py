"""The synchronous endpoint: a handler that calls the engine, waits, and answers, as most AI services do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

from actors.runtime.deployment import http_application
from benchmarks.echo import Body
from benchmarks.generated import said
from benchmarks.pipelines import Said, unhurried


class Busy(BaseModel):
    """How many requests are being answered."""

    requests: int


def build() -> FastAPI:
    """The application, made inside its replica, with the engine in it."""
    engine = unhurried()
    inside: set[object] = set()

    @asynccontextmanager
    async def open_engine(_: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    app = FastAPI(lifespan=open_engine)

    @app.post("/")
    async def answer(body: Body) -> Said:
        me = object()
        inside.add(me)
        try:
            return Said(text=await said(engine, body.input.text, body.input.tokens))
        finally:
            inside.remove(me)

    @app.get("/")
    async def busy() -> Busy:
        return Busy(requests=len(inside))

    return app


def application() -> serve.Application:
    """The same deployment, with the same options, as the ingress has: Serve's own limit would let in five requests."""
    return http_application("synchronous", build)
