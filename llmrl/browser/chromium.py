"""Start a headless Chromium without a network and end it with all of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from llmrl.errors import BrowserError
from llmrl.sandbox.cleanup import MARK, kill_left, remove
from llmrl.sandbox.inmate import WARDEN

VARIABLE = "LLMRL_CHROMIUM"  # names the program where it is not on the PATH
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
START_S = 30.0
NOWHERE = "http://blocked.invalid:1"
"""Proxy of all pages: its name is never resolved, so that nothing behind it is reached."""
FEATURES = (
    "Translate",
    "OptimizationHints",
    "MediaRouter",
    "AutofillServerCommunication",
    "BackForwardCache",
    # a process more for each page, or for each page that a page leads to
    "SpareRendererForSitePerProcess",
    "ProactivelySwapBrowsingInstance",
    "RenderDocument",
    "PaintHolding",
    # the window's own controls are pages, too
    "InitialWebUI",
    "InitialWebUIProfileService",
    "WebUIReloadButton",
    "WebUIToolbar",
    "WebUIToolbarWebView",
    "WebUIToolbarInternalWebView",
    "WebUIOmniboxPopup",
)
"""Parts of Chromium that pages of tasks do not need."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's own does not start as root, nor in containers; pages are ours and have no network
    "--remote-debugging-port=0",
    f"--proxy-server={NOWHERE}",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--dns-prefetch-disable",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-client-side-phishing-detection",
    f"--disable-features={','.join(FEATURES)}",
    "--disable-dev-shm-usage",  # /dev/shm is 64 MB in containers
    "--disable-gpu",
    "--lang=en-US",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    # pages that no window shows run as fast as the one in front
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-ipc-flooding-protection",
)


def program() -> str:
    """Path of the Chromium on this machine.

    Raises:
        BrowserError: there is none; says how to install it.
    """
    given = os.environ.get(VARIABLE)
    path = next(filter(None, map(shutil.which, (given,) if given else PROGRAMS)), None)
    if path is None:
        looked = f"{VARIABLE}={given}" if given else f"{', '.join(PROGRAMS)} on the PATH"
        raise BrowserError(
            f"no Chromium on this machine: looked for {looked}; run `apt-get install chromium`, or set {VARIABLE} to "
            "the path of a Chromium or Chrome"
        )
    return path


class Chromium:
    """A running Chromium with a profile of its own. Its processes are one session, which ends with it.

    A warden ends them and removes the profile where this process is killed.
    """

    def __init__(self, process: subprocess.Popen[bytes], profile: str, mark: str) -> None:
        self._process = process
        self._profile = profile
        self._mark = mark
        self._is_killed = False

    @classmethod
    def start(cls) -> Chromium:
        """Start one; `address` waits until it listens.

        Raises:
            BrowserError: there is no Chromium.
        """
        words, mark = [program(), *FLAGS], secrets.token_hex(8)
        profile = tempfile.mkdtemp(prefix="llmrl-chromium-")
        homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), profile)
        nowhere = subprocess.DEVNULL
        with open(f"{profile}/log", "wb") as log:
            process = subprocess.Popen(
                [*words, f"--user-data-dir={profile}", "about:blank"],
                stdin=nowhere,
                stdout=nowhere,
                stderr=log,
                start_new_session=True,
                env=os.environ | homes | {MARK: mark, "TZ": "UTC", "LANG": "en_US.UTF-8"},  # dates as tasks mean them
            )
        WARDEN.guard(process.pid, None, mark, profile)
        return cls(process, profile, mark)

    @property
    def pid(self) -> int:
        """Number of its first process, which leads the session."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """True until it ends, by whomever."""
        return self._process.poll() is None

    async def address(self) -> str:
        """Address of its DevTools, once it listens.

        Raises:
            BrowserError: it does not start; quotes what it wrote.
        """
        port_file = Path(self._profile, "DevToolsActivePort")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while self.is_running:
                    if port_file.exists() and (lines := port_file.read_text().splitlines())[1:]:
                        return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
                    await asyncio.sleep(0.02)
        written = Path(self._profile, "log").read_text(errors="replace").strip().splitlines()
        ended = f"ended with {self._process.poll()}" if not self.is_running else f"is silent after {START_S:g} s"
        self.kill()
        raise BrowserError(f"{program()} {ended}; expected it to listen. It wrote: {written[-3:]}")

    def kill(self) -> None:
        """End all of its processes and remove its profile; safe to call twice."""
        if self._is_killed:
            return
        self._is_killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        kill_left(self.pid, self._mark)
        self._process.wait()
        remove(self._profile)
        WARDEN.release(self.pid)
