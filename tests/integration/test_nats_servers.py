"""The servers that tests run on do what their fixtures say."""

from __future__ import annotations

import json

import nats

from tests.nats_servers import Servers


async def test_streams_are_kept_over_a_kill_on_the_same_ports(servers: Servers) -> None:
    urls = servers.urls
    client = await nats.connect(urls, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    config = {"name": "JOBS", "subjects": ["job.>"], "num_replicas": servers.replicas}
    created = json.loads(
        (await client.request("$JS.API.STREAM.CREATE.JOBS", json.dumps(config).encode(), timeout=10)).data
    )
    assert created["config"]["num_replicas"] == servers.replicas
    stored = json.loads((await client.request("job.one", b"kept", timeout=10)).data)
    assert stored["seq"] == 1

    leader = await servers.leader_of("JOBS")
    await servers.kill(leader)
    assert not servers.nodes[leader].is_running
    await servers.start(leader)
    assert servers.urls == urls
    await servers.leader_of("JOBS")

    fresh = await nats.connect(urls)
    kept = json.loads((await fresh.request("$JS.API.STREAM.MSG.GET.JOBS", b'{"seq":1}', timeout=10)).data)
    assert kept["message"]["subject"] == "job.one"
    await fresh.close()
    await client.close()


async def test_a_test_finds_no_stream_of_the_one_before(servers: Servers) -> None:
    client = await nats.connect(servers.urls)
    names = json.loads((await client.request("$JS.API.STREAM.NAMES", timeout=10)).data)
    assert not names["streams"]
    await client.close()
