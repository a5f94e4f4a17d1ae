"""Ray Serve's own asynchronous inference: a task consumer, and HTTP in front of it, as Ray's guide has them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.serve.schema import CeleryAdapterConfig, TaskProcessorAdapter, TaskProcessorConfig
from ray.serve.task_consumer import instantiate_adapter_from_config, task_consumer, task_handler

from actors.runtime.deployment import HEALTH_PERIOD_S, http_application
from benchmarks.celery_app import QUEUE, SETTINGS, TASK, TRANSPORT
from benchmarks.engine_thread import EngineThread
from benchmarks.pipelines import Ask, unhurried
from benchmarks.task_front import DONE, FRONTS, Look, front


class Consumer:
    """Answers one task after the other, as many at once as Serve gives it. Handlers of Ray's cannot be async."""

    def __init__(self, slots: int, tally: str) -> None:
        self._engine = EngineThread(unhurried(slots, Path(tally)))

    @task_handler(name=TASK)
    def answer(self, text: str, tokens: int) -> str:
        return self._engine.answer(text, tokens)


class RayTasks:
    """Its queue."""

    def __init__(self, adapter: TaskProcessorAdapter) -> None:
        self._adapter = adapter

    def send(self, ask: Ask) -> str:
        return self._adapter.enqueue_task_sync(TASK, args=[ask.text, ask.tokens]).id

    def look(self, task: str) -> Look:
        seen = self._adapter.get_task_status_sync(task)
        return Look(state=seen.status, answer=seen.result if seen.status == DONE else None)


def build(config: TaskProcessorConfig, consumer: object) -> FastAPI:
    """The application, made inside its replica. The consumer is deployed because it is named here."""
    return front(RayTasks(instantiate_adapter_from_config(config)))


def application(url: str, slots: int, replicas: int, tally: str) -> serve.Application:
    """The consumer, and in front of it the same deployment, with the same options, as the ingress has.

    Acknowledging late and giving a lost worker's tasks to others is what its adapter does anyway.
    """
    config = TaskProcessorConfig(
        queue_name=QUEUE,
        adapter_config=CeleryAdapterConfig(
            broker_url=url,
            backend_url=url,
            broker_transport_options=TRANSPORT,
            app_custom_config=SETTINGS,
        ),
    )
    consumer = serve.deployment(
        name="ray_consumer",
        num_replicas=replicas,
        max_ongoing_requests=slots,
        ray_actor_options={"num_cpus": 0.1},
        health_check_period_s=HEALTH_PERIOD_S,
    )
    bound = consumer(task_consumer(task_processor_config=config)(Consumer)).bind(slots, tally)
    return http_application("ray_tasks", partial(build, config, bound), replicas=FRONTS)
