"""The bare echo: what Ray Serve alone does with the same body, which accepting a job is compared with."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

from actors.runtime.deployment import http_application
from benchmarks.pipelines import Ask


class Body(BaseModel):
    """The body of a submission."""

    input: Ask


def build() -> FastAPI:
    """The application, made inside its replica."""
    app = FastAPI()

    @app.post("/")
    async def echo(body: Body) -> Body:
        return body

    return app


def application() -> serve.Application:
    """The same deployment, with the same options, as the ingress has."""
    return http_application("echo", build)
