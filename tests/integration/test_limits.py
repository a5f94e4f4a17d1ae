"""Limits at the door, over real HTTP: each is refused with what to do, and leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from actors.http import body
from actors.http.head import MAX_ADDRESS, MAX_HEADER_BYTES, MAX_HEADERS
from actors.journal import Journal
from tests.nats_servers import Servers
from tests.serving import served, settings_for, stored

KEEPER = "/v1/pipelines/keeper/jobs"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def http(r1: Servers) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(r1)) as http:
        yield http


def refused(answer: httpx.Response, status: int, kind: str) -> str:
    """What an answer says to do."""
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:headrace:problem:{kind}"), answer.text
    return str(answer.json()["detail"])


TWICE = {
    '{"input":{"data":1},"lane":"batch","lane":"interactive"}': "lane",
    '{"input":{"data":1},"input":{"data":1}}': "input",
    '{"input":{"data":[{"a":{"b":1,"c":2,"b":1}}]}}': "b",
    '{"input":{"data":1,"d\\u0061ta":2}}': "data",
    '{"input":{"data":{' + ",".join(f'"{n}":0' for n in range(50_000)) + ',"49999":0}}}': "49999",
}


async def test_a_name_that_stands_twice_in_an_object_is_refused_by_name(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    for said, name in TWICE.items():
        answer = await http.post(KEEPER, content=said, headers=JSON)
        assert f"has {name!r} twice" in refused(answer, 400, "malformed")
    chat = await http.post("/v1/responses", content='{"model":"m","input":"a","input":"b"}', headers=JSON)
    assert (chat.status_code, chat.json()["error"]["code"]) == (400, "malformed")
    assert "'input' twice" in chat.json()["error"]["message"]
    cancelled = await http.post(f"/v1/jobs/{'a' * 26}/cancel", content='{"reason":"a","reason":"b"}', headers=JSON)
    assert "'reason' twice" in refused(cancelled, 400, "malformed")
    assert await stored(journal_r1) == 0


async def test_the_same_name_in_several_objects_and_equal_values_are_fine(http: httpx.AsyncClient) -> None:
    for data in ('[{"a":1},{"a":1}]', '{"a":{"a":{"a":1}}}', '{"a":1,"A":1,"á":1}', "[1,1,1]"):
        answer = await http.post(KEEPER, content=f'{{"input":{{"data":{data}}}}}', headers=JSON)
        assert answer.status_code == 202, data


async def test_too_many_or_too_large_headers_are_refused(http: httpx.AsyncClient, journal_r1: Journal) -> None:
    many = JSON | {f"X-{n}": "1" for n in range(MAX_HEADERS)}
    large = JSON | {"Cookie": "c" * MAX_HEADER_BYTES}
    for headers in (many, large):
        answer = await http.post(KEEPER, content=b'{"input":{"data":1}}', headers=headers)
        assert "leave some out" in refused(answer, 431, "too-many-headers")
        followed = await http.get(f"/v1/events/{'a' * 26}", headers=headers)
        refused(followed, 431, "too-many-headers")
    assert await stored(journal_r1) == 0
    fits = JSON | {"Cookie": "c" * (MAX_HEADER_BYTES // 2)} | {f"X-{n}": "1" for n in range(MAX_HEADERS // 2)}
    assert (await http.post(KEEPER, content=b'{"input":{"data":1}}', headers=fits)).status_code == 202


async def test_a_long_address_is_refused(http: httpx.AsyncClient) -> None:
    for path in ("/v1/jobs/" + "a" * MAX_ADDRESS, "/v1/dead-letters?cursor=" + "1" * MAX_ADDRESS):
        assert "4,096" in refused(await http.get(path), 414, "too-long")
    refused(await http.get("/v1/jobs/" + "a" * (MAX_ADDRESS - 100)), 404, "unknown-job")


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    http: httpx.AsyncClient, journal_r1: Journal, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    monkeypatch.setattr(body, "BODY_S", 0.2)
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST {KEEPER} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    writer.write(head.encode() + (b'3\r\n{"i' if "chunked" in framing else b'{"i'))
    async with asyncio.timeout(20):
        answer = await reader.read()  # to the end: the connection is closed
    writer.close()
    await writer.wait_closed()
    status, _, rest = answer.partition(b"\r\n")
    assert status.startswith(b"HTTP/1.1 408")
    assert b"urn:headrace:problem:too-slow" in rest
    assert await stored(journal_r1) == 0
