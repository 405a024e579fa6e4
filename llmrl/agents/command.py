"""An agent program as it is: a command, run once for each episode, in a process group of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrl.errors import RecipeError
from llmrl.recipe.ranges import Seconds, Whole
from llmrl.types import Problem, Status

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
LONGEST_ARGUMENT = 100_000  # characters; Linux takes 128 KiB
TAIL = 600  # characters of the program's output that a reason quotes
END_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Command:
    """Options of the agent `command`. It sees the problem's messages and chosen columns, and never its answer."""

    command: Sequence[str]  # `{task}`, `{task_file}` are filled in; a first word `python` is llmrl's interpreter
    timeout_s: Seconds = 600.0  # of an episode; then the program is killed, with status `cut`
    crash: Literal["error", "cut"] = "error"  # status of a program that fails or is killed by another
    env: Mapping[str, str] = field(default_factory=dict)  # variables for the program, besides the usual few
    inherit: Sequence[str] = ()  # variables of llmrl's own environment that it gets, too
    info: Sequence[str] = ()  # columns of the problem that it may see
    cwd: str | None = None  # None: where llmrl runs
    max_open: Whole = 0  # programs at once; 0: eight a core

    def __post_init__(self) -> None:
        if isinstance(self.command, str) or not self.command:
            raise ValueError(f"command {self.command!r}: expected a list of words, such as [python, agent.py]")
        if not self.timeout_s > 0 or self.max_open < 0:
            raise ValueError(f"timeout_s {self.timeout_s}, max_open {self.max_open}: expected above 0, at least 0")

    async def run(self, problem: Problem, base_url: str, key: str) -> tuple[Status, str]:
        """Run the program: with the task in LLMRL_TASK, LLMRL_TASK_FILE and on standard input.

        Raises:
            RecipeError: there is no such program.
        """
        with tempfile.TemporaryDirectory(prefix="llmrl-agent-") as folder:
            task = self._task(problem)
            file, output = Path(folder) / "task.json", Path(folder) / "output"
            file.write_text(json.dumps(task), encoding="utf-8")
            with file.open("rb") as stdin, output.open("wb") as stdout:
                try:
                    process = await asyncio.create_subprocess_exec(
                        *self._words(task["task"], file),
                        stdin=stdin,
                        stdout=stdout,
                        stderr=asyncio.subprocess.STDOUT,
                        env=self._environment(task["task"], file, base_url, key),
                        cwd=self.cwd,
                        start_new_session=True,  # its own group, which ends with it
                    )
                except OSError as error:
                    raise RecipeError(
                        f"agent.command {self.command[0]!r} cannot be started: {error}; expected a program on PATH"
                    ) from error
                late = await self._ended(process)
            return self._ending(process.returncode or 0, late, _tail(output))

    async def _ended(self, process: asyncio.subprocess.Process) -> bool:
        """Wait for its end, then end what it has left; True where its time was over."""
        try:
            await asyncio.wait_for(process.wait(), self.timeout_s)
            return False
        except TimeoutError:
            return True
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_S)

    def _ending(self, code: int, late: bool, output: str) -> tuple[Status, str]:
        if late:
            return "cut", f"the agent took longer than {self.timeout_s:g} s (agent.timeout_s) and was killed"
        if code == 0:
            return "done", ""
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"
        return self.crash, f"the agent {how}; its last words: {output or 'none'}"

    def _task(self, problem: Problem) -> dict[str, Any]:
        """Collect what the program may know: id, messages and chosen columns, and the last message as text."""
        return {
            "id": problem.id,
            "task": str(problem.messages[-1].get("content", "")) if problem.messages else "",
            "messages": [dict(message) for message in problem.messages],
            "info": {name: problem.info[name] for name in self.info if name in problem.info},
        }

    def _words(self, task: str, file: Path) -> list[str]:
        words = [word.replace("{task_file}", str(file)).replace("{task}", task) for word in self.command]
        return [sys.executable, *words[1:]] if words[0] == "python" else words

    def _environment(self, task: str, file: Path, base_url: str, key: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in (*PASSED_ON, *self.inherit) if name in os.environ}
        short = {"LLMRL_TASK": task} if len(task) < LONGEST_ARGUMENT and "\0" not in task else {}
        session = {
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_BASE": base_url,  # as older clients and LiteLLM read it
            "OPENAI_API_KEY": key,
            "LLMRL_SESSION_URL": base_url.removesuffix("/v1"),
            "LLMRL_TASK_FILE": str(file),
            "TMPDIR": str(file.parent),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        return kept | session | short | dict(self.env)


def _tail(output: Path) -> str:
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - 4 * TAIL))
        return file.read().decode(errors="replace").strip()[-TAIL:]


plugin = Command
