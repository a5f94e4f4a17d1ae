"""cluster.yaml and serve.yaml are what Ray takes, and say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import serve_app
from actors.runtime.deployment import AWAY_FROM_GPUS
from actors.runtime.flags import HARD_STOP_S, STREAM_LIFE_S, ProxyPorts, serve_flags
from actors.runtime.settings import Settings

ROOT = Path(__file__).parents[2]


def test_cluster_yaml_passes_rays_own_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    validate_config(prepared)
    assert prepared["provider"]["type"] == "local"


def test_rays_validation_would_refuse_a_misspelled_cluster_yaml() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster.yaml").read_text()) | {"setup_comands": []}
    with pytest.raises(Exception, match="setup_comands"):
        validate_config(prepare_config(config))


def test_every_node_of_the_cluster_has_the_flags_that_serve_needs() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    wanted = serve_flags(ProxyPorts(fallback=1, metrics=2, stats=3, replicas=4))
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        start = next(command for command in commands if "ray start" in command)
        for flag in (
            "RAY_SERVE_ENABLE_HA_PROXY",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED",
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S",
            "RAY_worker_niceness",
        ):
            assert f"{flag}={wanted[flag]}" in start
        assert "RAY_AUTH_MODE=" in start


def test_every_node_of_the_cluster_says_whether_it_has_gpus() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    [(label, kind)] = AWAY_FROM_GPUS.items()
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        start = next(command for command in commands if "ray start" in command)
        assert f"--labels={label}=$(nvidia-smi" in start
        assert f"echo {kind.removeprefix('!')} ||" in start


def test_haproxy_stops_an_old_worker_only_after_its_longest_stream_has_ended() -> None:
    assert HARD_STOP_S > STREAM_LIFE_S


def test_serve_yaml_is_what_serve_app_writes() -> None:
    assert (ROOT / "serve.yaml").read_text() == serve_app.config(Settings())


def test_serve_yaml_passes_serves_own_validation() -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "serve.yaml").read_text()))
    assert {a.name for a in schema.applications} >= {
        "api",
        "events",
        "clock",
        "webhooks",
        "retrieve",
        "write",
        "call_tools",
        "polish",
    }
