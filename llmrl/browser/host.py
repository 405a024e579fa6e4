"""The browser of this process: one Chromium for up to 16 pages, on an event loop and a thread of its own.

Environments are asked on any loop and any thread, some of which pause or end; a connection to Chromium belongs to one.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from llmrl.browser.chromium import NOWHERE, Chromium
from llmrl.browser.devtools import DevTools, DevToolsError, PageLostError
from llmrl.browser.page import Page

T = TypeVar("T")
PAGES = 16
"""Pages that are open at once; an episode more waits until one is closed."""
USES = 50  # episodes after which a page is closed for good, with whatever it has leaked
CLOSE_S = 5.0


class Browser:
    """Opens pages in a Chromium that is started with the first, and anew after it has ended."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(PAGES)
        self._starting = asyncio.Lock()
        self._chromium: Chromium | None = None
        self._devtools: DevTools | None = None
        self._idle: list[Page] = []
        self._in_use = 0

    @property
    def pid(self) -> int | None:
        """Number of Chromium's first process; None before the first page."""
        return self._chromium.pid if self._chromium else None

    async def open(self, size: tuple[int, int], reach: str | None = None) -> Page:
        """Open an empty page, or take one that an episode has left; waits while `PAGES` are in use.

        A new page costs a process, half a second of a processor: it serves `USES` episodes, without cookies and history
        of those before.

        Args:
            size: width and height of the view, in pixels.
            reach: host and port on loopback, such as `127.0.0.1:8000`, that the page may load from; None: files alone.
        Raises:
            BrowserError: there is no Chromium, or it does not start.
            PageLostError: it ended meanwhile.
        """
        await self._slots.acquire()
        self._in_use += 1
        try:
            devtools = await self._running()
            fitting = [page for page in self._idle if (page.size, page.reach) == (size, reach)]
            if fitting:
                self._idle.remove(fitting[-1])
                return fitting[-1]
            if self._in_use + len(self._idle) > PAGES:
                await self._idle.pop(0).close(CLOSE_S)
            return await Page.open(devtools, size, reach, NOWHERE)
        except BaseException:
            self._leave_slot()
            raise

    async def close_page(self, page: Page) -> None:
        """Take a page back; a Chromium that cannot close one is ended, and with it the other pages."""
        page.uses += 1
        try:
            if page.devtools is not self._devtools or not page.devtools.is_open:
                return
            if page.is_sound and page.uses < USES:
                await page.forget()
                self._idle.append(page)
            else:
                await page.close(CLOSE_S)
        except (PageLostError, DevToolsError):
            await self.close()
        finally:
            self._leave_slot()

    def _leave_slot(self) -> None:
        self._in_use -= 1
        self._slots.release()

    async def close(self) -> None:
        """End Chromium; the next page starts another."""
        devtools, self._devtools, self._idle = self._devtools, None, []
        if devtools is not None:
            await devtools.close()
        self.kill()

    def kill(self) -> None:
        """End Chromium's processes, from any thread."""
        chromium, self._chromium = self._chromium, None
        if chromium is not None:
            chromium.kill()

    async def _running(self) -> DevTools:
        async with self._starting:
            if self._devtools is None or not self._devtools.is_open:
                await self.close()
                self._chromium = await asyncio.to_thread(Chromium.start)
                self._devtools = await DevTools.connect(await self._chromium.address())
            return self._devtools


class BrowserHost:
    """A browser, and the thread on whose event loop it is spoken to."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._owner = os.getpid()
        self.browser = Browser()
        threading.Thread(target=self._loop.run_forever, name="llmrl-browser", daemon=True).start()
        atexit.register(self._leave)

    @property
    def is_ours(self) -> bool:
        """False in a fork, which has no thread of its parent."""
        return self._owner == os.getpid()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the browser's loop, from a coroutine on any other."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def _leave(self) -> None:
        if self.is_ours:
            with contextlib.suppress(Exception):
                self.browser.kill()


_host: BrowserHost | None = None
_lock = threading.Lock()


def host() -> BrowserHost:
    """The host of this process."""
    global _host
    with _lock:
        if _host is None or not _host.is_ours:
            _host = BrowserHost()
        return _host
