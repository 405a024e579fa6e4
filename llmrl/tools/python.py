"""Python programs, in the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from llmrl.recipe.ranges import Seconds
from llmrl.sandbox.isolation import Level, Limits
from llmrl.sandbox.run import Sandbox
from llmrl.tool_calls.functions import ToolFunction, of_python


@dataclass(frozen=True, kw_only=True)
class Python:
    """Options of the tool `python`: a program a call, without network, behind the walls of docs/sandbox.md."""

    timeout_s: Seconds = 5.0  # of a program
    memory_mb: int = 512
    min_level: Level = "unshare"  # weaker walls are refused

    def __post_init__(self) -> None:
        self.sandbox()

    def sandbox(self) -> Sandbox:
        """The walls."""
        limits = Limits(wall_s=self.timeout_s, cpu_s=self.timeout_s, memory_mb=self.memory_mb)
        return Sandbox(self.min_level, None, limits)

    @asynccontextmanager
    async def functions(self) -> AsyncIterator[Sequence[ToolFunction]]:
        """The function `python`."""
        sandbox = self.sandbox()

        async def python(code: str) -> str:
            """Run a Python program and return what it prints. Nothing is kept between calls.

            Args:
                code: The program. Print what you want to read.
            """
            outcome = await asyncio.to_thread(sandbox.run, ["python", "-c", code])
            printed = (outcome.stdout + outcome.stderr).decode(errors="replace").strip()
            if (outcome.kind, outcome.code) == ("exited", 0):
                return printed or "(nothing was printed)"
            return f"{printed}\nerror: the program {outcome.reason}".strip()

        yield [of_python(python)]


plugin = Python
