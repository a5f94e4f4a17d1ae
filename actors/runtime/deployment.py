"""The Serve deployments: how a loop of ours, or an HTTP application, becomes replicas."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from starlette.types import ASGIApp

from actors.pipeline import Replicas, Stage
from actors.runtime.autoscaler import Autoscaler
from actors.runtime.replica import Replica
from actors.runtime.scaling import Rule
from actors.runtime.settings import Settings
from actors.runtime.telemetry import log_as_json

STOP_POLL_S = 0.1
HEALTH_PERIOD_S = 2.0
HEALTH_TIMEOUT_S = 30.0
MARGIN_S = 5.0
"""What Serve leaves a replica to stop in, over what the replica takes for itself."""

AWAY_FROM_GPUS = {"headrace-node": "!gpu"}
"""Ray's words for any machine but those that were started with the label `headrace-node=gpu`."""

STREAMS_PER_REPLICA = 10_000
"""Requests that one HTTP replica has open at most; each open stream is one."""

OWN_THREAD = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "1", "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1"}
"""For loops: a busy event loop must not hold up Serve's own, and log lines must not be lost in a buffer."""


class Loop(Protocol):
    """Something that runs until it is told to stop. It knows nothing of Serve."""

    async def run(self) -> None: ...

    async def stop(self, within: float) -> None: ...

    async def check(self) -> None: ...


class LoopActor:
    """Runs a loop as a Serve replica: started with it, checked, and drained before it ends.

    The constructor never waits and never fails for what is only missing for a while: three failed constructors would
    end the deployment for good.
    """

    def __init__(self, make: Callable[[], Loop], drain: float) -> None:
        log_as_json(serve.get_replica_context().replica_tag)
        self._drain = drain
        self._loop = make()
        self._task = asyncio.create_task(self._loop.run())

    async def check_health(self) -> None:
        if self._task.done():
            raise RuntimeError("the loop has ended") from (None if self._task.cancelled() else self._task.exception())
        await self._loop.check()

    async def __del__(self) -> None:
        await self._loop.stop(self._drain)
        await asyncio.wait({self._task}, timeout=MARGIN_S / 2)
        self._task.cancel()


class HttpActor:
    """Serves an HTTP application that is built inside the replica."""

    def __init__(self, build: Callable[[], ASGIApp]) -> None:
        log_as_json(serve.get_replica_context().replica_tag)
        self._build = build

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._build()


def loop_application(
    name: str,
    make: Callable[[], Loop],
    *,
    replicas: int | AutoscalingConfig,
    actor_options: dict[str, Any],
    drain: float,
) -> serve.Application:
    """A deployment without a route: deploying or scaling it never touches the proxy."""
    deployment = serve.deployment(
        name=name,
        **_count(replicas),
        max_ongoing_requests=1,
        ray_actor_options={**actor_options, "runtime_env": {"env_vars": _environment(actor_options)}},
        graceful_shutdown_wait_loop_s=STOP_POLL_S,
        graceful_shutdown_timeout_s=drain + MARGIN_S,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
    )
    return deployment(LoopActor).bind(make, drain)


def _environment(actor_options: dict[str, Any]) -> dict[str, str]:
    """Ray shows a replica its own GPUs, but all of them to one that was given none."""
    return OWN_THREAD if actor_options.get("num_gpus") else {**OWN_THREAD, "CUDA_VISIBLE_DEVICES": ""}


def _count(replicas: int | AutoscalingConfig) -> dict[str, Any]:
    """So many replicas, in Serve's words: no fixed number may be zero, but what gets no requests is scaled to it."""
    if isinstance(replicas, AutoscalingConfig):
        return {"autoscaling_config": replicas}
    if replicas:
        return {"num_replicas": replicas}
    return {"autoscaling_config": {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1}}


def _by_lag(stage: Stage, replicas: Replicas) -> AutoscalingConfig:
    """As many as its lag needs. What is decided is done at once: our own rule has the delays.

    No `initial_replicas`: every deploy would go back to them, whatever runs.
    """
    rule = Rule.of(stage, replicas)
    arguments = {"stage": stage.name, "rule": dataclasses.asdict(rule)}
    policy = AutoscalingPolicy(policy_function=Autoscaler, policy_kwargs=arguments)  # type: ignore[no-untyped-call]
    return AutoscalingConfig(
        min_replicas=rule.least,
        max_replicas=rule.most,
        upscale_delay_s=0,
        downscale_delay_s=0,
        policy=policy,
    )


def stage_application(settings: Settings, stage: Stage) -> serve.Application:
    """The deployment of one stage, on the compute that it asks for."""
    wanted = stage.replicas
    return loop_application(
        stage.name,
        _StageReplica(settings, stage.name),
        replicas=_by_lag(stage, wanted) if isinstance(wanted, Replicas) else wanted,
        actor_options=_actor_options(settings, stage),
        drain=settings.drain,
    )


def overflow_application(settings: Settings, stage: Stage) -> serve.Application | None:
    """The deployment of a stage's overflow, None where it has none. Without GPUs there is nothing that it could help,
    and no replica of it.
    """
    if (on_cpus := stage.on_cpus) is None or not isinstance(on_cpus.replicas, int):
        return None
    # What is installed for a GPU does not run without one, so there is no falling back on a machine that has one.
    options = {"num_cpus": on_cpus.cpus, "num_gpus": 0.0, "label_selector": AWAY_FROM_GPUS}
    return loop_application(
        overflow_name(stage),
        _StageReplica(settings, stage.name, overflow=True),
        replicas=on_cpus.replicas if settings.gpus else 0,
        actor_options=options,
        drain=settings.drain,
    )


def overflow_name(stage: Stage) -> str:
    """What its overflow's application is called; no stage can have that name."""
    return f"{stage.name}-overflow"


def _actor_options(settings: Settings, stage: Stage) -> dict[str, Any]:
    """What one replica asks of Ray. Where there are GPUs, what needs none stays away from them as long as it can."""
    if not settings.gpus:
        return {"num_cpus": stage.cpus, "num_gpus": 0.0}
    if stage.gpus:
        kind = {"accelerator_type": stage.accelerator} if stage.accelerator else {}
        return {"num_cpus": stage.cpus, "num_gpus": stage.gpus, **kind}
    return {
        "num_cpus": stage.cpus,
        "num_gpus": 0.0,
        "label_selector": AWAY_FROM_GPUS,
        "fallback_strategy": [{"label_selector": {}}],
    }


class _StageReplica:
    """Makes a stage's replica from what travels to it: the settings and a name. Stages themselves are never pickled."""

    def __init__(self, settings: Settings, stage: str, *, overflow: bool = False) -> None:
        self._settings = settings
        self._stage = stage
        self._overflow = overflow

    def __call__(self) -> Loop:
        return Replica(self._settings, self._stage, overflow=self._overflow)


def http_application(name: str, build: Callable[[], ASGIApp], *, replicas: int = 1) -> serve.Application:
    """The deployment of an HTTP application. Its number of replicas is fixed: a change would cut open streams."""
    deployment = serve.deployment(
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=STREAMS_PER_REPLICA,
        ray_actor_options={"num_cpus": 0.1},
        health_check_period_s=HEALTH_PERIOD_S,
    )
    return deployment(serve.ingress()(HttpActor)).bind(build)
