"""Ray's and Serve's flags: what must stand in the environment before Ray is imported, on every node."""

from __future__ import annotations

import resource
import secrets
from dataclasses import dataclass
from pathlib import Path

STREAM_LIFE_S = 300
"""A stream of events ends after so many seconds, and its reader resumes."""

HARD_STOP_S = STREAM_LIFE_S + 30
"""When HAProxy cuts what an old worker of it still serves; over a stream's life, so that no stream is cut."""

MAX_CONNECTIONS = 20_000
FILES_PER_CONNECTION = 3
"""HAProxy takes two and a half, and does not start where the limit on open files is lower than that."""


@dataclass(frozen=True, slots=True)
class ProxyPorts:
    """The ports that Serve's proxy needs beside the one it serves on; each free when it was chosen."""

    fallback: int
    metrics: int
    stats: int
    replicas: int
    """The first of a hundred that HTTP replicas listen on."""


def serve_flags(ports: ProxyPorts, *, haproxy: Path | None = None) -> dict[str, str]:
    """The environment for one machine.

    HAProxy in front and user code on the replica's own loop give the least latency; see Ray Serve's documentation on
    `RAY_SERVE_ENABLE_HA_PROXY` and `RAY_SERVE_THROUGHPUT_OPTIMIZED`. `haproxy` replaces the binary that Ray brings.
    """
    flags = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # What is held back to be printed once comes after the end, when nobody can tell what it is about.
        "RAY_DEDUP_LOGS": "0",
        # Ray gives way to everything else on a machine; here the replicas are what it is for.
        "RAY_worker_niceness": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(HARD_STOP_S),
        "RAY_SERVE_HAPROXY_MAXCONN": str(_connections()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replicas),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.replicas + 99),
    }
    if haproxy is not None:
        flags["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(haproxy)
    return flags


def one_machine_flags() -> dict[str, str]:
    """The environment of a cluster that is this machine alone, for as long as one program runs."""
    return {
        # Whoever reaches a port of Ray's can run code as us, so a token that only this program's processes know.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Named for other systems, where it is the default: Ray's processes listen on the loopback address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Replicas are never called through handles, and this server would listen on every address.
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0",
        # No other node's proxy has to hear first that a replica is going.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def _connections() -> int:
    """As many as we want, or as the limit on open files allows."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if limit == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, limit // FILES_PER_CONNECTION)
