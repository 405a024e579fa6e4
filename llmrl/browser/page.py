"""A page: go somewhere, evaluate, read its elements, wait until it is still."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from llmrl.browser.devtools import CALL_S, DevTools, DevToolsError, PageLostError

LOAD_S = 20.0
FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
STILL_S = 1.0  # a page that draws no frames in this time is as still as it gets
SCRIPT = files("llmrl.browser").joinpath("elements.js").read_text(encoding="utf-8")


class Page:
    """A page with cookies and storage of its own. Its elements are numbered in a world that its scripts cannot see."""

    def __init__(
        self, devtools: DevTools, context: str, session: str, size: tuple[int, int], reach: str | None
    ) -> None:
        self.devtools = devtools
        self.size = size
        self.reach = reach  # host and port on loopback that it may load from
        self.uses = 0  # episodes so far
        self.documents = 0  # that it has begun to show
        self.is_sound = True  # False once it has not answered
        self._context = context
        self._session = session
        self._frame = ""
        self._world: int | None = None
        self._loaded = asyncio.Event()
        self._loaded.set()
        devtools.listen(session, self._hear)

    @classmethod
    async def open(cls, devtools: DevTools, size: tuple[int, int], reach: str | None, proxy: str) -> Page:
        """Open an empty page of this size, which loads through `proxy` but from the host and port of `reach`."""
        bypass = ";".join(filter(None, ("<-loopback>", reach)))  # loopback goes through a proxy, too
        options = {"proxyServer": proxy, "proxyBypassList": bypass, "disposeOnDetach": True}
        context = (await devtools.call("Target.createBrowserContext", options))["browserContextId"]
        target = await devtools.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})
        attach = {"targetId": target["targetId"], "flatten": True}
        page = cls(devtools, context, (await devtools.call("Target.attachToTarget", attach))["sessionId"], size, reach)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        await asyncio.gather(
            page.call("Page.enable"),
            page.call("Emulation.setDeviceMetricsOverride", metrics),  # --window-size cuts the view in headless mode
            page.call("Emulation.setFocusEmulationEnabled", {"enabled": True}),
            devtools.call("Browser.setDownloadBehavior", {"behavior": "deny", "browserContextId": context}),
        )
        page._frame = (await page.call("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        return page

    async def call(
        self, method: str, params: Mapping[str, Any] | None = None, timeout_s: float = CALL_S
    ) -> Mapping[str, Any]:
        """Call a method of DevTools on this page; raises as `DevTools.call`."""
        try:
            return await self.devtools.call(method, params, session=self._session, timeout_s=timeout_s)
        except PageLostError:
            self.is_sound = False
            raise

    async def goto(self, url: str) -> None:
        """Load an address, wait until it has loaded, and begin the history there.

        Raises:
            PageLostError: it does not load; names the address and the reason.
        """
        self._loaded.clear()
        failed = (await self.call("Page.navigate", {"url": url})).get("errorText")
        if failed:
            raise PageLostError(f"{url}: {failed}")
        try:
            async with asyncio.timeout(LOAD_S):
                await self._loaded.wait()
                while not await self._has_loaded():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            self.is_sound = False
            raise PageLostError(f"{url} did not load within {LOAD_S:g} s") from None
        await self.call("Page.resetNavigationHistory")

    async def revisit(self, entry: int) -> None:
        """Go to an entry of the page's history."""
        await self.call("Page.navigateToHistoryEntry", {"entryId": entry})

    async def evaluate(self, expression: str) -> Any:
        """Evaluate an expression in the page's own world, where its scripts run; promises are awaited."""
        return await self._evaluate({"expression": expression})

    async def ask(self, expression: str) -> Any:
        """Evaluate an expression in our own world of the page, where `elements` is (see `elements.js`)."""
        for attempt in range(3):
            try:
                return await self._evaluate({"expression": expression, "contextId": await self._ours()})
            except DevToolsError:  # the page has moved on, and that world went with it
                self._world = None
                if attempt == 2:
                    raise
                await self._wait_loaded()
        raise AssertionError

    async def settle(self) -> None:
        """Wait until the page has drawn what an action changed, or has loaded the page that it led to."""
        with contextlib.suppress(DevToolsError, TimeoutError):
            async with asyncio.timeout(STILL_S):
                await self.evaluate(FRAMES)
        await self._wait_loaded()

    async def screenshot(self, width: int, height: int) -> bytes:
        """PNG of the upper left of the view, in pixels."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode((await self.call("Page.captureScreenshot", {"format": "png", "clip": clip}))["data"])

    async def forget(self) -> None:
        """Forget the cookies, for the next episode."""
        await self.devtools.call("Storage.clearCookies", {"browserContextId": self._context})

    async def close(self, timeout_s: float) -> None:
        """Close the page for good."""
        self.devtools.forget(self._session)
        await self.devtools.call(
            "Target.disposeBrowserContext", {"browserContextId": self._context}, timeout_s=timeout_s
        )

    async def world(self) -> int:
        """Number of our own world, for calls of DevTools that need it."""
        await self.ask("0")
        return await self._ours()

    async def _ours(self) -> int:
        if self._world is None:
            params = {"frameId": self._frame, "worldName": "llmrl", "grantUniveralAccess": False}
            world: int = (await self.call("Page.createIsolatedWorld", params))["executionContextId"]
            await self._evaluate({"expression": SCRIPT, "contextId": world})
            self._world = world
        return self._world

    async def _evaluate(self, params: Mapping[str, Any]) -> Any:
        answer = await self.call("Runtime.evaluate", {**params, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise DevToolsError(details.get("exception", {}).get("description", details.get("text")))
        return answer["result"].get("value")

    async def _has_loaded(self) -> bool:
        with contextlib.suppress(DevToolsError):  # the document is being replaced
            return bool(await self.evaluate("location.href !== 'about:blank' && document.readyState === 'complete'"))
        return False

    async def _wait_loaded(self) -> None:
        try:
            async with asyncio.timeout(LOAD_S):
                await self._loaded.wait()
        except TimeoutError:
            self.is_sound = False
            raise PageLostError(f"a page did not load within {LOAD_S:g} s") from None

    def _hear(self, event: str, params: Mapping[str, Any]) -> None:
        """Follow the main frame; answer dialogs, which would stop the page."""
        if event == "Page.frameStartedLoading" and params["frameId"] == self._frame:
            self._loaded.clear()
        elif event == "Page.frameStoppedLoading" and params["frameId"] == self._frame:
            self._loaded.set()
        elif event == "Page.frameNavigated" and params["frame"]["id"] == self._frame:
            self._world = None
            self.documents += 1
        elif event == "Page.javascriptDialogOpening":
            answer = self.call("Page.handleJavaScriptDialog", {"accept": True})
            self._answering = asyncio.get_running_loop().create_task(_unless_gone(answer))
        elif event in ("Inspector.targetCrashed", "Inspector.detached"):
            self.is_sound = False
            self._loaded.set()


async def _unless_gone(call: Any) -> None:
    with contextlib.suppress(DevToolsError, PageLostError):
        await call
