"""Follow README and quickstart literally: every command of their blocks, as printed, timed, in a fresh checkout.

    git clone . /tmp/fresh && cd /tmp/fresh && python3 benchmarks/first_hour.py --json /tmp/first_hour.json

Blocks without a language are commands; a Python or YAML block becomes the file that the text before it names. A server
is left running for the commands after it, up to the next server. What needs a hub or a GPU is asked, too: it must be
refused with a sentence, without a traceback, within `--limit` seconds. Needs nothing but Python's own library.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/quickstart.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"`([\w/.-]+\.(?:py|yaml|jsonl))`")
SERVES = re.compile(r"\bllmrl (?:serve|reward-serve)\b.*?(?:--port[ =](\d+))?")
OURS = re.compile(r'^ *File "(?!.*site-packages).*/llmrl/')  # of a traceback; a launcher shows one of its own
LONG = 1800.0  # seconds of an installation, a demo or a test suite
SKIPPED = re.compile(r"^make (?:test|check|slow)\b")  # the project's own suites, which run elsewhere


@dataclass
class Done:
    """A command that was run, and what it came to."""

    page: str
    command: str
    seconds: float
    code: int | None  # None: a server, which answers
    last: str  # line of its output
    traceback: bool


def commands(text: str, folder: Path) -> Iterator[str]:
    """The commands of a page, in their order; files that it prints are written beside."""
    for block in BLOCK.finditer(text):
        language, body = block[1], block[2]
        if language in ("", "bash", "sh"):
            joined = body.replace("\\\n", " ")
            yield from (line.split("  # ")[0].strip() for line in joined.splitlines() if line.strip())
            continue
        names = NAMED.findall(text[: block.start()][-400:])
        if names and Path(names[-1]).suffix == {"python": ".py", "yaml": ".yaml", "json": ".jsonl"}.get(language):
            path = folder / names[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body, encoding="utf-8")


class Shell:
    """Runs commands one after another in a folder, with the environment that one of them has activated."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.before = ""  # what each command begins with
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, page: str, command: str) -> Done:
        """Run a command to its end or its limit; a server until it answers."""
        if re.match(r"(?:\.|source) ", command):
            self.before = f"{command} && "
            return Done(page, command, 0.0, 0, "", traceback=False)
        log, began = self.folder / "first_hour.log", time.monotonic()
        serves = SERVES.search(command)
        if serves:
            self.stop()
        with log.open("wb") as file:
            child = subprocess.Popen(
                # a server takes the shell's place, so that its end is waited for
                ["bash", "-c", self.before + ("exec " if serves else "") + command],
                cwd=self.folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        code = self._answers(child, re.search(r"--port[ =](\d+)", command)) if serves else self._ended(child, command)
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        broken = any(map(OURS.search, lines))
        return Done(page, command, round(time.monotonic() - began, 1), code, (lines or [""])[-1][-200:], broken)

    def _ended(self, child: subprocess.Popen[bytes], command: str) -> int:
        """The exit code; that of a killed process where it takes too long."""
        try:
            return child.wait(LONG if re.match(r"make |pip |llmrl demo", command) else self.limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return child.wait()

    def _answers(self, child: subprocess.Popen[bytes], port: re.Match[str] | None) -> int | None:
        """None once a server answers, whatever it says; its exit code where it ends before."""
        url, end = f"http://127.0.0.1:{port[1] if port else 8000}/v1/models", time.monotonic() + self.limit
        while child.poll() is None and time.monotonic() < end:
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError:
                pass  # it wants its key
            except OSError:
                time.sleep(1)
                continue
            self.server = child
            return None
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        return child.wait()

    def stop(self) -> None:
        """End the server that is left running."""
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGTERM)
            try:
                self.server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.server.pid, signal.SIGKILL)
        self.server = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", nargs="*", default=PAGES)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of a command, installations apart")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shell, done = Shell(ROOT, options.limit), []
    try:
        for page in options.pages:
            for command in commands((ROOT / page).read_text(encoding="utf-8"), ROOT):
                if SKIPPED.match(command):
                    continue
                done.append(shell.run(page, command))
                each = done[-1]
                print(f"{each.code}\t{each.seconds:.0f} s\t{each.command[:110]}\n\t\t{each.last}", flush=True)
    finally:
        shell.stop()
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in done], indent=1) + "\n", encoding="utf-8")
    broken = [each.command for each in done if each.traceback or (each.code or 0) < 0]
    raise SystemExit(f"a traceback, or no end in time: {broken}" if broken else 0)


if __name__ == "__main__":
    main()
