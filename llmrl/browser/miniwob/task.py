"""A task of MiniWoB++ in the browser, judged by its own page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.browser.actions import ActionError
from llmrl.browser.curriculum import warm_start
from llmrl.browser.devtools import PageLostError
from llmrl.browser.elements import Element, read
from llmrl.browser.episode import Judgement
from llmrl.browser.hands import perform
from llmrl.browser.miniwob.catalogue import SOFT, STEPS, TASKS
from llmrl.browser.miniwob.plans import plan
from llmrl.browser.page import Page
from llmrl.browser.variants import SPLIT
from llmrl.browser.wishes import FieldPlan, NoPlanError

READY_S = 20.0
ROUNDING = 1e-6  # of rewards that a page sums up of shares
TIRELESS_MS = 2_000_000_000
"""Time limit of a page, 23 days, the most that setTimeout takes: its own 10 s would measure how fast a policy is."""
BEGIN = """(() => {
  core.EPISODE_MAX_TIME = %d;
  if (window.jQuery) jQuery.fx.off = true;
  Math.seedrandom(%d);
  if (core.setDataMode) core.setDataMode("%s");
  core.startEpisodeReal();
})()"""
STATE = "({over: WOB_DONE_GLOBAL, raw: WOB_RAW_REWARD_GLOBAL})"
GOAL = "(() => { const goal = core.getUtterance(); return typeof goal === 'string' ? goal : goal.utterance })()"


@dataclass
class MiniWobTask:
    """A task, its seed, and how much of it is left to do: at `progress` 1 all, below it a plan fills fields first."""

    name: str
    seed: int
    pages: Path
    progress: float = 1.0
    size: tuple[int, int] = (500, 320)
    hidden: str = "#query, #reward-display, #sync-task-cover, #click-canvas"
    goal: str = ""

    @property
    def max_steps(self) -> int:
        return STEPS[TASKS[self.name]]

    async def serve(self) -> None:
        """Pages are files."""

    async def start(self, page: Page) -> str:
        """Load the page, seed it, begin; return the goal, without the fields that the page may name beside it."""
        await self._begin(page)
        if self.progress < 1 and not await self._prepare(page):
            await self._begin(page)  # what was filled did not hold: begin at the true beginning
        return self.goal

    async def judge(self, page: Page, answer: str | None) -> Judgement:
        """Read the page's own reward, without its discount by time: 1 where it is whole, shares in soft tasks alone.

        Pages pay shares for parts of what they ask, some of them for a wrong answer: none of these is right.
        """
        state: Mapping[str, Any] = await page.evaluate(STATE)
        over, raw = bool(state["over"]), float(state["raw"])
        is_right = over and raw > 1 - ROUNDING
        reward = raw if self.name in SOFT else float(is_right)
        return Judgement(over, reward if over else 0.0, is_right)

    async def potential(self, elements: Sequence[Element]) -> float:
        """Share of the fields that are as the goal wants them; 0 where no plan is known."""
        try:
            return self._plan(elements).reached
        except NoPlanError:
            return 0.0

    async def close(self) -> None:
        """Do nothing: the page is all that it holds."""

    async def _begin(self, page: Page) -> None:
        await page.goto((self.pages / f"{self.name}.html").as_uri())
        await page.evaluate(BEGIN % (TIRELESS_MS, self.seed, "test" if self.seed >= SPLIT else "train"))
        try:
            async with asyncio.timeout(READY_S):
                while not await page.evaluate("WOB_TASK_READY"):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise PageLostError(f"{self.name}: its page is not ready after {READY_S:g} s") from None
        self.goal = await page.evaluate(GOAL)

    async def _prepare(self, page: Page) -> bool:
        """Fill some fields by the plan; return False where one then is not as it should be."""
        with contextlib.suppress(NoPlanError, ActionError):
            fields = [wish.field for wish in self._plan(await self._read(page)).wishes]
            chosen = warm_start(fields, self.progress, f"{self.name}/{self.seed}")
            for field in chosen:
                for _ in range(3):  # a field that holds something is cleared first
                    wish = next(w for w in self._plan(await self._read(page)).wishes if w.field == field)
                    if not wish.is_met:
                        await perform(page, wish.action)
            wishes = self._plan(await self._read(page)).wishes
            is_over = (await self.judge(page, None)).is_over
            return not is_over and all(wish.is_met for wish in wishes if wish.field in chosen)
        return False

    async def _read(self, page: Page) -> list[Element]:
        return await read(page, "dom", self.hidden)

    def _plan(self, elements: Sequence[Element]) -> FieldPlan:
        return plan(self.name, self.goal, elements)
