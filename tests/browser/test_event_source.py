"""A browser's own EventSource follows a job: cut connections and killed result actors cost and repeat no event.

`make browser READERS=8 SEED=7` runs it with so many pages and that seed, and on Ray Serve. Without READERS it is a
sample with one page, always with the same seed, where there is a Chromium.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random, SystemRandom

import httpx
import pytest
from playwright.async_api import Browser

from actors.client import AsyncHeadrace
from actors.journal import Journal
from actors.journal.server_config import free_ports, is_free
from actors.journal.topology import ensure
from actors.results import results
from tests.browser.chromium import MISSING, OUTCOMES, Reader, chromium, installed, some_page
from tests.callers import bearer, key_office
from tests.chaos.crew import ACK_WAIT_S, Crew, Post
from tests.chaos.history import Pen
from tests.chaos.stories import story
from tests.chaos.users import STUBBORN
from tests.installation import installation
from tests.lossy import relay
from tests.nats_servers import Servers
from tests.serving import EVENTS, hear, listening, settings_for, working
from tests.slow_pipeline import WORDS

GUIDE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text()

ASKED = "READERS" in os.environ
READERS = int(os.environ.get("READERS") or 1)
SEED = int(os.environ.get("SEED") or (SystemRandom().randrange(1 << 31) if ASKED else 20261123))
CUTS = 2
"""How often the connection of each reader is cut."""
PORTION = (400, 800)
"""After how many bytes: not in an answer's headers, as Chromium takes what it has of them for all of them."""
BACKSTOP_S = 120.0

TALES = ("tests.slow_pipeline:tales",)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if not installed():
        (pytest.fail if ASKED else pytest.skip)(MISSING)
    print(f"seed {SEED}")
    async with chromium() as opened:
        yield opened


async def submit(url: str, pipeline: str, input: dict[str, str], key: str | None = None) -> str:
    async with AsyncHeadrace(url, api_key=key, patience=STUBBORN) as client:
        return (await client.submit(pipeline, input)).id


async def assert_whole(reader: Reader, url: str, job: str, text: str, key: str | None = None) -> None:
    """It saw each event once and in order, the outcome last: what one who reads all of it afterwards sees.

    The page passes over nothing, so an event that came twice would be there twice.
    """
    seen = await reader.events()
    async with httpx.AsyncClient(base_url=url, timeout=30, headers=bearer(key) if key else {}) as http:
        stored = (await hear(http, job)).events
    numbers = [data["n"] for _, _, data in seen]
    assert numbers == sorted(set(numbers))
    assert [(kind, id) for kind, id, _ in seen if kind != "delta"] == [
        (sent.kind, sent.id) for sent in stored if sent.kind != "delta"
    ]
    assert "".join(data["text"] for kind, _, data in seen if kind == "delta") == text
    assert seen[-1][0] in OUTCOMES


def assert_stopped_by_itself(reader: Reader) -> None:
    """The page opened one EventSource and never another; what told that to stop was a 204, after the outcome."""
    statuses = [answer.status for answer in reader.answers if not answer.url.endswith("/session")]
    assert statuses == [200] * (len(statuses) - 1) + [204]


async def test_a_reader_whose_connection_is_cut_resumes_by_itself(browser: Browser, r1: Servers) -> None:
    settings = settings_for(r1).model_copy(update={"pipelines": TALES})
    rng = Random(SEED)

    async def read(url: str, name: str) -> None:
        async with relay(url, [rng.randrange(*PORTION) for _ in range(CUTS)]) as wire:
            job = await submit(url, "tales", {"name": name})
            reader = await Reader.at(browser, wire.url, f"{EVENTS}/{job}")
            await reader.until_closed()
            assert wire.spent == CUTS
            await assert_whole(reader, url, job, WORDS)
            assert_stopped_by_itself(reader)

    async with listening(settings, events=results(settings, rng=rng)) as url, working(settings, "tell", "count"):
        async with asyncio.timeout(BACKSTOP_S):
            await asyncio.gather(*(read(url, f"mill {n}") for n in range(READERS)))


async def test_a_reader_whose_result_actor_is_killed_resumes_by_itself(
    browser: Browser, r1: Servers, tmp_path: Path
) -> None:
    [port] = free_ports(1, is_free)
    url = f"http://127.0.0.1:{port}"

    def crew(*roles: str) -> Crew:
        posts = [Post(role, role, tuple(r1.urls), tuple(r1.sys_urls), 1, tmp_path, port) for role in roles]
        return Crew(posts, Pen(tmp_path))

    async with Journal.open(r1.urls, "browser") as journal, asyncio.timeout(BACKSTOP_S):
        await ensure(journal.signals, ["fetch", "deliver"], max_bytes=8 << 30, ack_wait=ACK_WAIT_S)
        async with crew("front") as fronts:
            jobs = [await submit(url, "errands", {"text": f"page {n}"}) for n in range(READERS)]
            readers = [await Reader.at(browser, url, f"{EVENTS}/{job}") for job in jobs]
            for reader in readers:
                await reader.until("handoff")
            killed = fronts.of("front")[0].process
            killed.kill()
            killed.join()
            async with crew("fetch", "deliver"):
                for n, (job, reader) in enumerate(zip(jobs, readers, strict=True)):
                    await reader.until_closed()
                    await assert_whole(reader, url, job, story(f"page {n}"))
                    assert_stopped_by_itself(reader)
    assert killed.exitcode == -9


async def test_a_reader_that_comes_back_while_the_log_is_away_resumes_by_itself(browser: Browser, r1: Servers) -> None:
    settings = settings_for(r1).model_copy(update={"pipelines": TALES})
    async with listening(settings) as url, relay(url) as wire, asyncio.timeout(BACKSTOP_S):
        job = await submit(url, "tales", {"name": "a drought"})
        reader = await Reader.at(browser, wire.url, f"{EVENTS}/{job}")
        await reader.until("handoff")
        await r1.kill()
        wire.cut()
        await reader.until_answered(2)
        await r1.start()
        async with working(settings, "tell", "count"):
            await reader.until_closed()
        await assert_whole(reader, url, job, WORDS)
        assert_stopped_by_itself(reader)


async def test_a_page_of_another_origin_reads_by_a_session_and_its_key_is_in_no_url(
    browser: Browser, r1: Servers
) -> None:
    [port] = free_ports(1, is_free)
    url = f"http://127.0.0.1:{port}"
    async with (
        relay(url) as elsewhere,
        relay(url) as foreign,
        relay(url) as wire,
        key_office(r1) as office,
        asyncio.timeout(BACKSTOP_S),
        AsyncExitStack() as stack,
    ):
        settings = settings_for(r1, cors_origins=elsewhere.url).model_copy(update={"pipelines": TALES})
        await stack.enter_async_context(listening(settings, port=port))
        key = (await office.make("acme", now=datetime.now(UTC))).text
        job = await submit(url, "tales", {"name": "a secret"}, key)
        path = f"{wire.url}{EVENTS}/{job}"
        reader = await Reader.at(browser, elsewhere.url, path, key)
        await reader.until("handoff")
        wire.cut()
        await stack.enter_async_context(working(settings, "tell", "count"))
        await reader.until_closed()
        await assert_whole(reader, url, job, WORDS, key)
        assert_stopped_by_itself(reader)
        assert len(reader.answers) > 2
        assert not [answer for answer in reader.answers if key in answer.url]

        foreigner = await Reader.at(browser, foreign.url, path, key)
        await foreigner.until_closed()
        assert await foreigner.events() == []


async def test_what_the_guide_shows_for_a_page_fills_it_with_what_is_said(browser: Browser, r1: Servers) -> None:
    [code] = re.findall(r"```js\n(.*?)```", GUIDE, re.DOTALL)
    settings = settings_for(r1).model_copy(update={"pipelines": TALES})
    async with listening(settings) as url, working(settings, "tell", "count"), asyncio.timeout(BACKSTOP_S):
        job = await submit(url, "tales", {"name": "a guide"})
        shown = await some_page(browser, url)
        await shown.evaluate("document.body.replaceChildren()")
        ended = await shown.evaluate(
            f"id => new Promise(done => {{ const page = document.body, ended = (...how) => done(how); {code} }})", job
        )
        assert ended[0] == "completed"
        assert ended[1]["answer"] == {"text": WORDS, "words": 60}
        assert await shown.inner_text("body") == WORDS


@pytest.mark.skipif(not ASKED, reason="Ray Serve takes too long for a sample: make browser")
async def test_a_reader_whose_result_actor_is_killed_on_ray_serve_resumes_by_itself(
    browser: Browser, tmp_path: Path
) -> None:
    with installation(tmp_path, pipelines=["tests.slow_pipeline:tales"]) as running:
        async with asyncio.timeout(BACKSTOP_S):
            for n in range(3):
                job = await submit(running.url, "tales", {"name": f"storm {n}"})
                reader = await Reader.at(browser, running.url, f"{EVENTS}/{job}")
                await reader.until("delta")
                running.replica("events").kill()
                await reader.until_closed()
                await assert_whole(reader, running.url, job, WORDS)
                assert_stopped_by_itself(reader)
