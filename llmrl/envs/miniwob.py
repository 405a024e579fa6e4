"""MiniWoB++ in a real Chromium: a small page, a goal in words, clicks and keys; judged by the page."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.browser.episode import WebEpisode, WebOptions
from llmrl.browser.miniwob.catalogue import check_names, find_pages
from llmrl.browser.miniwob.task import MiniWobTask
from llmrl.errors import DataError
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class MiniWob(WebOptions):
    """Tasks of data `miniwob`. A turn pays 1 where it solves the task, and else nothing but `shaping`."""

    pages: str = ""  # folder html/miniwob of a copy; "": that of the installed package `miniwob`

    def make(self, problem: Problem) -> WebEpisode:
        """Make an episode of a problem with `task`, `seed` and `progress` in its info.

        Raises:
            DataError: the problem is not of data `miniwob`.
            BrowserError: its pages are not on this machine.
        """
        info = problem.info
        if "task" not in info or "seed" not in info:
            raise DataError(f"problem {problem.id}: no `task` and `seed` in its info; expected data: {{name: miniwob}}")
        check_names([str(info["task"])], f"problem {problem.id}")
        task = MiniWobTask(
            str(info["task"]), int(info["seed"]), find_pages(self.pages), float(info.get("progress", 1.0))
        )
        return WebEpisode(task, self)


plugin = MiniWob
