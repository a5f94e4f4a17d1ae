"""Ray's and Serve's flags: what must stand in the environment before Ray is imported, on every node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STREAM_LIFE_S = 300
"""A stream of events ends after so many seconds, and its reader resumes."""

HARD_STOP_S = STREAM_LIFE_S + 30
"""When HAProxy cuts what an old worker of it still serves; over a stream's life, so that no stream is cut."""

MAX_CONNECTIONS = 20_000


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
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(HARD_STOP_S),
        "RAY_SERVE_HAPROXY_MAXCONN": str(MAX_CONNECTIONS),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replicas),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.replicas + 99),
    }
    if haproxy is not None:
        flags["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(haproxy)
    return flags


def loopback_flags() -> dict[str, str]:
    """The environment that keeps a cluster of one machine on its loopback address."""
    # Named for other systems, where it is the default; it decides which address Ray's processes listen on.
    return {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
