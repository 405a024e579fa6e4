"""A small shop on loopback in a real Chromium: search, filter, cart, login, checkout; judged by its database."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.browser.episode import WebEpisode, WebOptions
from llmrl.browser.shop.goals import KINDS, make_goal
from llmrl.browser.shop.task import ShopTask
from llmrl.errors import DataError
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class Shop(WebOptions):
    """Tasks of data `shop`. The last turn pays 1 where the shop's database is as the goal asks, and else 0."""

    def make(self, problem: Problem) -> WebEpisode:
        """Make an episode of a problem with `kind`, `seed` and `progress` in its info.

        Raises:
            DataError: the problem is not of data `shop`.
        """
        info = problem.info
        if info.get("kind") not in KINDS or "seed" not in info:
            raise DataError(f"problem {problem.id}: no `kind` and `seed` in its info; expected data: {{name: shop}}")
        return WebEpisode(ShopTask(make_goal(info["kind"], int(info["seed"]), float(info.get("progress", 1.0)))), self)


plugin = Shop
