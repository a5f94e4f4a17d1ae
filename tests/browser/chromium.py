"""Chromium, as the system brings it, driven by playwright: a page in it reads with the browser's own EventSource."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, Page, Response, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = f"no {', '.join(NAMES)} on the PATH: apt-get install chromium"

FOLLOW = """async ([path, kinds, key]) => {
    window.seen = [];
    if (key) {
        const headers = {Authorization: `Bearer ${key}`};
        await fetch(`${path}/session`, {method: "POST", credentials: "include", headers}).catch(() => {});
    }
    const source = new EventSource(path, {withCredentials: key !== null});
    const tell = (kind, event) => {
        window.seen.push([kind, event.lastEventId, event.data]);
        told(kind, source.readyState);
    };
    for (const kind of kinds) source.addEventListener(kind, event => tell(kind, event));
    source.onerror = () => told("error", source.readyState);
}"""
"""What the page does: nothing about a connection that breaks, as that is the browser's to mend."""

CLOSED = 2
"""The state of an EventSource that does not connect any more."""

KINDS = ("handoff", "step.started", "step.failed", "step.released", "step.part", "progress", "delta", "gap", "reset")
OUTCOMES = ("completed", "failed", "cancelled", "expired", "aborted", "dead_lettered")


def installed() -> str | None:
    """Where there is a Chromium, if there is."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=installed())
        yield browser
        await browser.close()


async def some_page(browser: Browser, url: str) -> Page:
    """A page of this origin."""
    page = await browser.new_page()
    await page.goto(f"{url}/healthz")
    return page


@dataclass
class Reader:
    """A page that follows one job: what it saw, and how it was answered."""

    page: Page
    answers: list[Response] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def at(cls, browser: Browser, url: str, path: str, key: str | None = None) -> Reader:
        """A reader on a page of this origin; with a key it begins a session first."""
        page = await some_page(browser, url)
        reader = cls(page)
        await page.expose_function("told", reader._told)
        page.on("response", reader._answered)
        await page.evaluate(FOLLOW, [path, [*KINDS, *OUTCOMES], key])
        return reader

    async def until(self, kind: str, times: int = 1) -> None:
        """Wait until it has seen so many events of this kind."""
        while self.kinds.count(kind) < times:
            self._news.clear()
            await self._news.wait()

    async def until_answered(self, times: int) -> None:
        """Wait until so many of its requests were answered, whatever the answer."""
        while len(self.answers) < times:
            self._news.clear()
            await self._news.wait()

    async def until_closed(self) -> None:
        """Wait until it has no connection and will not open another."""
        await self._closed.wait()

    async def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Every event that it saw: kind, id and data."""
        seen: Sequence[tuple[str, str, str]] = await self.page.evaluate("window.seen")
        return [(kind, id, json.loads(data)) for kind, id, data in seen]

    def _answered(self, answer: Response) -> None:
        self.answers.append(answer)
        self._news.set()

    def _told(self, kind: str, state: int) -> None:
        self.kinds.append(kind)
        if state == CLOSED:
            self._closed.set()
        self._news.set()
