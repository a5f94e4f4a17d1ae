"""An installation to be measured: everything that `headrace up` starts, and what it is compared with, in one process.

`python -m benchmarks.installed <settings as JSON> <what is beside it as JSON>` says where it listens in one line of
JSON, takes `{"stage": name, "replicas": n, "version": name, "settings": {…}}` a line, and ends when its standard input
does. Beside it are modules, each with what its application is built with; that is deployed at `/<module>`.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import JsonValue

from actors.client import AsyncHeadrace, ClientError, Patience
from actors.launch import installation
from actors.pipeline import Stage
from actors.replies import StageReport
from actors.runtime.ports import claimed
from actors.runtime.replica import load_pipelines
from actors.runtime.settings import Settings
from benchmarks.machine import ROOT
from benchmarks.processes import Processes
from benchmarks.wire import Address

HOST = "127.0.0.1"
BACKLOG = 1_000_000
"""What waits here is what was posted to be measured; nobody is to be asked to come back."""

FIRST_PORT = 8200
LOOK_EVERY_S = 0.2
READY_S = 240.0
STOP_S = 60.0


class Installed:
    """An installation of these pipelines, with its data in `data`. An async context manager; entered, it is ready.

    What is `beside` it, by module and with what that is built with, is deployed too, and may be ready later.
    """

    def __init__(
        self,
        data: Path,
        pipelines: tuple[str, ...],
        model: str = "",
        *,
        beside: Mapping[str, Mapping[str, JsonValue]] | None = None,
        **settings: JsonValue,
    ) -> None:
        self._settings = {"data": str(data), "pipelines": pipelines, "model": model, **settings}
        self._beside = {name: dict(built_with) for name, built_with in (beside or {}).items()}
        self._stages = {s.name: s for p in load_pipelines(pipelines).values() for s in p.stages}
        self._process: asyncio.subprocess.Process
        self.nats_url: str
        self.address: Address
        self.processes: Processes

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.installed", json.dumps(self._settings)]
        command.append(json.dumps(self._beside))
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
        try:
            said = await self._hear()
            self.nats_url, self.address = said["nats_url"], Address(HOST, int(said["port"]))
            self.processes = Processes(self._process.pid)
            await self.ready({s.name: _at_first(s) for s in self._stages.values()})
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def scale(self, stage: str, replicas: int) -> None:
        """Give a stage so many replicas; they are ready when this returns, and no others are there any more."""
        await self.deploy(stage, replicas)
        await self.ready({stage: replicas})

    async def deploy(self, stage: str, replicas: int, *, version: str = "", **settings: JsonValue) -> None:
        """Hand a stage to Serve again, with so many replicas and other settings; returns before they run.

        Replicas that run another version are replaced; without a name, every deployment is another version.
        """
        assert self._process.stdin
        asked = {"stage": stage, "replicas": replicas, "version": version, "settings": settings}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self._hear()

    async def ready(self, wanted: Mapping[str, int]) -> None:
        """Wait until each of these stages has just so many replicas, all of them ready."""
        url = f"http://{self.address.host}:{self.address.port}"
        async with asyncio.timeout(READY_S), AsyncHeadrace(url, patience=Patience(tries=10_000, longest=1.0)) as client:
            while not await _are_ready(client, wanted):  # noqa: ASYNC110  # it is in another process
                await asyncio.sleep(LOOK_EVERY_S)

    async def _hear(self) -> dict[str, str]:
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the installation ended; what it said is above")
        said: dict[str, str] = json.loads(line)
        return said

    async def _stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()


def _at_first(stage: Stage) -> int:
    """How many replicas it has before there is work, spares among them."""
    return stage.replicas if isinstance(stage.replicas, int) else stage.replicas.min + stage.replicas.spare


async def _are_ready(client: AsyncHeadrace, wanted: Mapping[str, int]) -> bool:
    try:
        found = {stage.stage: _states(stage) for stage in await client.stages()}
    except ClientError:
        return False
    return all(found.get(stage) == ["ready"] * replicas for stage, replicas in wanted.items())


def _states(stage: StageReport) -> list[str]:
    return [replica.state for replica in stage.replicas if replica.role != "overflow"]


async def _run(settings: Settings, beside: dict[str, dict[str, Any]]) -> None:
    stages: dict[str, Stage] = {s.name: s for p in load_pipelines(settings.pipelines).values() for s in p.stages}
    async with installation(settings, asyncio.Event()) as running:
        # Not before: Ray reads its flags when it is imported.
        from actors.runtime.deployment import stage_application

        others: list[tuple[str, str | None, Any]] = [
            (name, f"/{name}", importlib.import_module(f"benchmarks.{name}").application(**built_with))
            for name, built_with in beside.items()
        ]
        if others:
            await asyncio.to_thread(running.cluster.deploy, others)
        _say({"nats_url": running.settings.nats_url, "port": running.settings.port})
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            stage = replace(stages[asked["stage"]], replicas=asked["replicas"])
            application = stage_application(running.settings.model_copy(update=asked["settings"]), stage)
            # What `serve deploy` makes of a file's contents; the call that takes an application has no way to say it.
            application._bound_deployment._version = asked["version"] or None
            await asyncio.to_thread(running.cluster.deploy, [(stage.name, None, application)])
            _say({})


def _say(said: dict[str, object]) -> None:
    print(json.dumps(said), flush=True)


def main() -> None:
    with claimed(HOST, itertools.count(FIRST_PORT)) as port:
        assert port, "there is always one more to try"
        settings = Settings(**json.loads(sys.argv[1]), host=HOST, port=port, max_backlog=BACKLOG)
        asyncio.run(_run(settings, json.loads(sys.argv[2])))


if __name__ == "__main__":
    main()
