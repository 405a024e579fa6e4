"""A task in the shop, judged by the shop's database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmrl.browser.elements import Element
from llmrl.browser.episode import Judgement
from llmrl.browser.page import Page
from llmrl.browser.shop.goals import Goal
from llmrl.browser.shop.server import COOKIE, ShopServer, server
from llmrl.browser.shop.store import Store


@dataclass
class ShopTask:
    """A goal and the store of its episode: over when the policy stops, or has ordered where an order is asked for."""

    goal: Goal
    max_steps: int = 30
    size: tuple[int, int] = (800, 600)
    hidden: str = ""
    _server: ShopServer | None = field(default=None, repr=False)
    _token: str = field(default="", repr=False)

    @property
    def store(self) -> Store:
        """The database; after `serve`, and before `close`."""
        assert self._server is not None
        return self._server.stores[self._token]

    async def serve(self) -> str:
        """Start the server, and open the store of this episode."""
        self._server = await server()
        self._token = self._server.enter(self.goal.store())
        return self._server.address

    async def start(self, page: Page) -> str:
        """Go to the first page; return the goal."""
        assert self._server is not None
        home = f"http://{self._server.address}/"
        cookie = {"name": COOKIE, "value": self._token, "url": home, "httpOnly": True}
        await page.call("Network.setCookie", cookie)
        await page.goto(home)
        return self.goal.text

    async def judge(self, page: Page, answer: str | None) -> Judgement:
        """Ask the database: 1 where every fact of the goal holds, else 0."""
        has_ordered = self.goal.asks_order and any(order.is_new for order in self.store.orders)
        if answer is None and not has_ordered:
            return Judgement()
        is_right = all(fact.holds(self.store, answer or "") for fact in self.goal.facts)
        return Judgement(True, float(is_right), is_right)

    async def potential(self, elements: Sequence[Element]) -> float:
        """Share of the goal's facts that hold; an answer is none before it is given."""
        return sum(fact.holds(self.store, "") for fact in self.goal.facts) / len(self.goal.facts)

    async def close(self) -> None:
        """Close the store."""
        if self._server is not None:
            self._server.leave(self._token)
