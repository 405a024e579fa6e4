"""An agent's episode on a repository: a shell, files to read and edit, tests; judged by the tests in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.sandbox.workspace import LocalWorkspace
from llmrl.swe.changed import Watched
from llmrl.swe.clones import files_of
from llmrl.swe.instance import Instance
from llmrl.swe.judging import Credit, judged
from llmrl.swe.testing import TestBed
from llmrl.swe.tree import ChangeError
from llmrl.tool_calls.episode import calls_of
from llmrl.tool_calls.functions import ToolFunction, answered, of_python
from llmrl.types import Message, Observation, Score

INSTRUCTIONS = (
    "A repository is in {root}. Change its files so that the issue below is solved; tests that you do not see will be "
    "run. Work with the tools, and call submit when you are done.\n\n{issue}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """Limits of an episode."""

    max_steps: int = 30  # turns; then the repair is judged as it stands
    command_timeout_s: float = 60.0
    max_calls: int = 4  # of a turn; further ones are refused
    max_characters: int = 10_000  # of the answer of a call; the middle of a longer one is left out

    def __post_init__(self) -> None:
        if min(self.max_steps, self.max_calls, self.max_characters) < 1 or self.command_timeout_s <= 0:
            raise ValueError(f"{self}: expected limits above 0")


@dataclass
class SweEpisode:
    """Episode of one instance. Programs of the policy work in a folder of their own; the judge has another."""

    instance: Instance
    bed: TestBed
    limits: AgentLimits
    credit: Credit = "all"
    place: LocalWorkspace | None = None
    watched: Watched | None = None
    steps: int = 0
    calls: int = 0
    malformed: int = 0
    submitted: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    functions: dict[str, ToolFunction] = field(default_factory=dict)

    async def reset(self) -> Observation:
        """Lay out the repository; show the issue.

        Raises:
            DataError: there is no clone, or it has no such commit.
        """
        await asyncio.to_thread(self._open)
        assert self.place is not None
        content = INSTRUCTIONS.format(root=self.place.root, issue=self.instance.issue)
        schemas = [function.schema for function in self.functions.values()]
        return Observation(messages=[{"role": "user", "content": content}], tools=schemas)

    async def step(self, message: Message) -> Observation:
        """Answer the calls of a message; the episode ends with submit, without a call, or at the limit of steps."""
        self.steps += 1
        last = self.steps >= self.limits.max_steps
        if error := message.get("tool_error"):
            self.malformed += 1
            reply = [{"role": "tool", "content": f"error: {error}"}]
            return await self._ended(cut=True) if last else Observation(messages=reply)
        calls = calls_of(message)
        self.calls += len(calls)
        most = self.limits.max_characters
        replies = await answered(calls, self.functions, max_calls=self.limits.max_calls, max_characters=4 * most)
        if self.submitted or not calls:
            return await self._ended(cut=False)
        if last:
            return await self._ended(cut=True)
        return Observation(messages=[{**reply, "content": elided(str(reply["content"]), most)} for reply in replies])

    async def close(self) -> None:
        """Remove the folder; safe to call twice."""
        if self.place is not None:
            await asyncio.to_thread(self.place.close)

    def _open(self) -> None:
        self.place = self.bed.local_workspace(self.instance)
        files = files_of(self.instance, self.bed.repos)
        self.place.open()
        self.watched = Watched(Path(self.place.folder), files)
        self.watched.look()
        tools = RepairTools(self.place, self.instance, self.limits.command_timeout_s)
        for function in (tools.bash, tools.view, tools.str_replace, tools.create, tools.test, self.submit):
            made = of_python(function)
            self.functions[made.name] = ToolFunction(made.schema, self._in_turn(made))

    def _in_turn(self, function: ToolFunction) -> Callable[[Mapping[str, Any]], Awaitable[Any]]:
        """Make calls of a turn, which share a folder, follow each other; a path that leads out of it is answered."""

        async def call(arguments: Mapping[str, Any]) -> Any:
            async with self.lock:
                try:
                    return await function.call(arguments)
                except ChangeError as error:
                    return f"error: {error}"

        return call

    def submit(self) -> str:
        """Submit the repository as it is now, and end."""
        self.submitted = True
        return "submitted"

    async def _ended(self, cut: bool) -> Observation:
        score, changed = await asyncio.to_thread(self._judged)
        metrics = {**self.metrics(), **{name: value for name, value in score.parts.items() if value is not None}}
        metrics["changed_files"] = float(changed)
        return Observation(reward=score.value or 0.0, done=True, cut=cut, verdict=score.verdict, metrics=metrics)

    def _judged(self) -> tuple[Score, int]:
        """Run the tests on the changes, in a fresh folder."""
        assert self.watched is not None
        try:
            changes = self.watched.changes()
            return judged(self.instance, self.bed.run(self.instance, changes), self.credit), len(changes)
        except ChangeError as error:
            return Score(0.0, "wrong", {"applied": 0.0}, reason=str(error)), 0

    def metrics(self) -> Mapping[str, float]:
        """Numbers of the episode."""
        numbers = {"steps": self.steps, "tool_calls": self.calls, "malformed_calls": self.malformed}
        return {name: float(number) for name, number in {**numbers, "submitted": self.submitted}.items()}


@dataclass(frozen=True)
class RepairTools:
    """Functions that the policy calls."""

    place: LocalWorkspace
    instance: Instance
    timeout_s: float

    def bash(self, command: str) -> str:
        """Run a shell command in the repository. Only its files are kept between calls.

        Args:
            command: The command, for bash.
        """
        return self._shown(["bash", "-c", command])

    def view(self, path: str, first: int = 1, last: int = 200) -> str:
        """Show lines of a file with their numbers, or the files of a folder.

        Args:
            path: The file or folder, from the root of the repository.
            first: The number of the first line, from 1.
            last: The number of the last line.
        """
        below = self._below(path)
        if below in ("", "."):
            return self._shown(["find", ".", "-maxdepth", "2", "-not", "-path", "*/.*"])
        try:
            lines = self.place.read(below).decode(errors="replace").split("\n")
        except (FileNotFoundError, ChangeError):
            return self._shown(["find", below, "-maxdepth", "2", "-not", "-path", "*/.*"])
        chosen = lines[max(first, 1) - 1 : max(last, 0)]
        shown = "\n".join(f"{number:6}\t{line}" for number, line in enumerate(chosen, max(first, 1)))
        return f"{shown}\n({len(lines)} lines)"

    def str_replace(self, path: str, old: str, new: str) -> str:
        """Replace a text in a file, which must stand there exactly once.

        Args:
            path: The file, from the root of the repository.
            old: The text, with enough lines around it to be the only one.
            new: The text in its place.
        """
        below = self._below(path)
        text = self.place.read(below).decode("utf-8", "surrogateescape")
        if (count := text.count(old)) != 1 or not old:
            raise ValueError(
                f"the text stands there {count} times; expected once: copy the lines as they are, and more of them"
            )
        self.place.write(below, text.replace(old, new).encode("utf-8", "surrogateescape"))
        start = text[: text.index(old)].count("\n") + 1
        return f"changed; now:\n{self.view(path, max(start - 3, 1), start + new.count(chr(10)) + 3)}"

    def create(self, path: str, text: str) -> str:
        """Write a new file, or replace one.

        Args:
            path: The file, from the root of the repository.
            text: Its whole text.
        """
        self.place.write(self._below(path), text.encode("utf-8", "surrogateescape"))
        return "written"

    def test(self, target: str = "") -> str:
        """Run tests of the repository that are there.

        Args:
            target: What to run, such as tests/test_a.py; empty for all.
        """
        words = ["-m", "unittest", *(target.split() or ["discover"])]
        if self.instance.runner == "pytest":
            words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *target.split()]
        return self._shown(["python", *words])

    def _shown(self, argv: Sequence[str]) -> str:
        done = self.place.exec(argv, timeout_s=self.timeout_s)
        printed = done.printed.strip()
        if (done.outcome.kind, done.outcome.code) == ("exited", 0):
            return printed or "(nothing was printed)"
        return f"{printed}\nerror: the program {done.outcome.reason}".strip()

    def _below(self, path: str) -> str:
        return path.removeprefix(self.place.root).lstrip("/")


def elided(text: str, most: int) -> str:
    """A text of at most about so many characters, without its middle where it was longer."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[cut: {len(text) - 2 * half} characters]\n{text[-half:]}"
