"""An episode on a web page: show it, perform the policy's action, ask the task's judge, until it or a limit ends it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from llmrl.browser.actions import HELP, Action, ActionError, Grammar, read_action
from llmrl.browser.curriculum import shaped
from llmrl.browser.elements import Element, Form, read, write
from llmrl.browser.hands import perform
from llmrl.browser.host import PAGES, host
from llmrl.browser.page import Page
from llmrl.browser.transcript import History, Transcript
from llmrl.errors import BrowserError
from llmrl.types import Message, Observation, Verdict

UNREAD = 3  # messages in a row without an action, after which the episode ends
VAIN = 5  # times in a row that the same action changes nothing
CLOSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """State of a task: over or not, and its reward if it is."""

    is_over: bool = False
    reward: float = 0.0
    is_right: bool = False


class WebTask(Protocol):
    """A task on pages. Made for one problem, used once, closed."""

    size: tuple[int, int]  # of the view, in pixels
    hidden: str  # CSS selector of what the policy is not shown; "" for nothing

    @property
    def max_steps(self) -> int: ...

    async def serve(self) -> str | None:
        """Start what serves its pages; return host and port on loopback that they load from, or None for files."""
        ...

    async def start(self, page: Page) -> str:
        """Bring the page to the beginning; return the goal in words."""
        ...

    async def judge(self, page: Page, answer: str | None) -> Judgement:
        """Judge the state after an action; `answer` is the policy's last word, with which the task must end."""
        ...

    async def potential(self, elements: Sequence[Element]) -> float:
        """Share of the goal that is reached, 0 to 1; `elements` are those of the page now."""
        ...

    async def close(self) -> None:
        """Release what it holds; safe to call twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """Options of every environment on the web."""

    max_open_envs: ClassVar[int] = PAGES  # episodes at once; more would wait for a page
    observation: Form = "dom"  # the document; axtree: the accessibility tree; html: tags with boxes, as WebArena-Lite
    actions: Grammar = "calls"  # click(3); webarena: do(action="Click", element="3")
    history: History = "kept"  # every page stays in the chat; placeholders: only the last, and the chat is rewritten
    instructions: bool = True  # the actions are explained before the first page
    max_steps: int | None = None  # None: the task's own limit
    max_elements: int = 200  # of a page; the rest is counted
    max_text: int = 200  # characters of an element's text or value
    shaping: float = 0.0  # weight of the potential's growth in the reward of a turn; 0 in evaluation
    shaping_gamma: float = 1.0  # discount of the potential after the step
    pictures: str | None = None  # folder for a PNG of every page that is shown, such as runs/mine/pictures

    def __post_init__(self) -> None:
        if min(1 if self.max_steps is None else self.max_steps, self.max_elements, self.max_text) < 1:
            raise ValueError("max_steps, max_elements and max_text must be at least 1")
        if self.shaping < 0 or not 0 < self.shaping_gamma <= 1:
            raise ValueError("shaping must be at least 0, shaping_gamma above 0 and at most 1")


@dataclass
class Counts:
    """Counts of an episode, which end it, and of which it tells the log."""

    steps: int = 0
    unread: int = 0  # messages without an action
    refused: int = 0  # actions that the page does not allow
    unread_now: int = 0  # in a row
    vain_now: int = 0  # in a row, of the same action


@dataclass
class WebEpisode:
    """Environment of one task. Its page lives in the browser of this process."""

    task: WebTask
    options: WebOptions
    page: Page | None = None
    goal: str = ""
    counts: Counts = field(default_factory=Counts)

    async def reset(self) -> Observation:
        """Open the page and show it.

        Raises:
            BrowserError: there is no Chromium, or no pages; ends the run.
            PageLostError: Chromium ended meanwhile; the next episode starts another.
        """
        return await host().run(self._reset())

    async def step(self, message: Message) -> Observation:
        """Perform the action in a message and show the page after it; the last observation shows no text."""
        return await host().run(self._step(str(message["content"])))

    async def close(self) -> None:
        """Close the page; safe to call twice."""
        await host().run(self._close())

    async def look(self, form: Form = "dom") -> list[Element]:
        """The elements of the page now, for scripted players and pictures."""
        assert self.page is not None
        return await host().run(read(self.page, form, self.task.hidden))

    async def picture(self, width: int, height: int) -> bytes:
        """PNG of the page's upper left, in pixels."""
        assert self.page is not None
        return await host().run(self.page.screenshot(width, height))

    async def _reset(self) -> Observation:
        self.page = page = await host().browser.open(self.task.size, await self.task.serve())
        self.goal = await self.task.start(page)
        help = HELP[self.options.actions] if self.options.instructions else ""
        self._transcript = Transcript(self.options.history, help, self.goal)
        self._before: Action | None = None
        elements = await read(page, self.options.observation, self.task.hidden)
        self._potential = await self._potential_of(elements)
        self._shown = self._write(elements)
        return Observation(messages=await self._messages(self._shown))

    async def _step(self, text: str) -> Observation:
        assert self.page is not None
        self.counts.steps += 1
        self._transcript.replies.append(text)
        action, refusal = await self._act(self.page, text)
        answer = action.text if action and action.name == "stop" else None
        judgement = await self.task.judge(self.page, answer)
        if judgement.is_over or answer is not None:
            return await self._end(judgement.reward, "correct" if judgement.is_right else "wrong")
        elements = await read(self.page, self.options.observation, self.task.hidden)
        shown = self._write(elements)
        self._count(action, is_vain=shown == self._shown)
        before, self._potential, self._shown = self._potential, await self._potential_of(elements), shown
        reward = self.options.shaping * shaped(before, self._potential, self.options.shaping_gamma)
        if self.counts.unread_now == UNREAD or self.counts.vain_now == VAIN:
            return await self._end(0.0, "unparsable" if self.counts.unread_now == UNREAD else "wrong")
        if self.counts.steps >= (self.options.max_steps or self.task.max_steps):
            last, metrics = await self._last(), self._metrics(0.0)
            return Observation(messages=last, reward=reward, done=True, cut=True, verdict="truncated", metrics=metrics)
        page = f"Error: {refusal}\n\n{shown}" if refusal else shown
        whole = self._transcript.is_whole
        return Observation(messages=await self._messages(page), reward=reward, whole=whole)

    async def _messages(self, shown: str) -> Sequence[Message]:
        """Messages that show a page; where pictures are kept, the last names that of the page."""
        messages = self._transcript.show(shown)
        picture = await self._picture()
        return [*messages[:-1], {**messages[-1], **picture}] if picture else messages

    async def _picture(self) -> Mapping[str, str]:
        """The picture of the page now, where pictures are kept: the file under `picture`."""
        if self.options.pictures is None or self.page is None:
            return {}
        png = await self.page.screenshot(*self.task.size)
        return {"picture": await asyncio.to_thread(_keep, png, self.options.pictures)}

    async def _act(self, page: Page, text: str) -> tuple[Action | None, str]:
        """Perform the action in a text; return it, and why it did not go."""
        try:
            action = read_action(text, self.options.actions)
        except ActionError as error:
            self.counts.unread += 1
            return None, str(error)
        try:
            await perform(page, action)
        except ActionError as error:
            self.counts.refused += 1
            return action, str(error)
        return action, ""

    def _count(self, action: Action | None, is_vain: bool) -> None:
        self.counts.unread_now = 0 if action else self.counts.unread_now + 1
        is_same = action is not None and action == self._before
        self.counts.vain_now = 0 if not is_vain else self.counts.vain_now + 1 if is_same else 1
        self._before = action

    async def _end(self, reward: float, verdict: Verdict) -> Observation:
        """The end of the task by its judge, or by what the policy did: its potential is then 1 or 0."""
        last = float(verdict == "correct")
        reward += self.options.shaping * shaped(self._potential, last, self.options.shaping_gamma)
        shown = await self._last()
        return Observation(messages=shown, reward=reward, done=True, verdict=verdict, metrics=self._metrics(last))

    async def _last(self) -> Sequence[Message]:
        """Messages of the last observation: the picture of the page, where pictures are kept, for rewards that look."""
        picture = await self._picture()
        return [{"role": "user", "content": "", **picture}] if picture else []

    def _metrics(self, success: float) -> dict[str, float]:
        counts = self.counts
        return {"success": success, "steps": counts.steps, "unread": counts.unread, "refused": counts.refused}

    async def _potential_of(self, elements: Sequence[Element]) -> float:
        if not self.options.shaping:
            return 0.0
        assert self.page is not None
        if self.options.observation == "axtree":
            elements = await read(self.page, "dom", self.task.hidden)
        return await self.task.potential(elements)

    def _write(self, elements: Sequence[Element]) -> str:
        limits = self.options
        return write(elements, limits.observation, longest=limits.max_text, most=limits.max_elements)

    async def _close(self) -> None:
        page, self.page = self.page, None
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.task.close()
        finally:
            if page is not None:
                await host().browser.close_page(page)


def _keep(png: bytes, folder: str) -> str:
    """Write a picture under a name by its content, once; its path.

    Raises:
        BrowserError: it cannot be written.
    """
    path = Path(folder) / f"{hashlib.blake2b(png, digest_size=12).hexdigest()}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(png)
    except OSError as error:
        raise BrowserError(
            f"env.pictures={folder}: cannot be written: {error.strerror}; choose another folder"
        ) from error
    return str(path.resolve())
