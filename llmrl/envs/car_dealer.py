"""The car dealer of LMRL-Gym against a scripted buyer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from llmrl.games.buyer import Deal, Talk, deal_reward, drawn, given_up, read_deal, reply
from llmrl.games.game import Move, TextGame

BUYERS = 2000
"""Number of starts."""


@dataclass(frozen=True)
class CarDealer(TextGame[Talk]):
    """Sell a car; a start is the number of a buyer, from which personality, wishes and budget are drawn.

    The last line of the buyer decides the reward; its `Output:` is not shown. A sale counts as won. Budgets,
    personalities, brands, types, features, format and rewards are those of LMRL-Gym (arXiv 2311.18232), whose buyer is
    a language model: returns are not comparable with theirs.
    """

    reward: Literal["fancy", "revenue"] = "fancy"
    max_lines: int = 50  # of both sides

    rules: ClassVar[str] = (
        "You sell cars. Talk with a buyer, find out what they want, and sell at a high price: name it in dollars, such "
        "as $31,500. A buyer who hears too many prices above their limit leaves. Answer with nothing but your next "
        "line."
    )

    def __post_init__(self) -> None:
        if self.max_lines < 2:
            raise ValueError(f"max_lines {self.max_lines}: expected at least 2")

    def starts(self) -> Sequence[str]:
        """Numbers of buyers."""
        return [str(number) for number in range(BUYERS)]

    def family(self, start: str) -> str:
        """The buyer, whom several numbers may draw."""
        buyer = drawn(int(start))
        return replace(buyer, features=tuple(sorted(buyer.features))).private_line()

    def begin(self, start: str) -> Talk:
        if not (start.isascii() and start.isdigit() and len(start) < 6 and int(start) < BUYERS):
            raise ValueError(f"expected a number below {BUYERS}")
        return Talk(drawn(int(start)))

    def shown(self, state: Talk) -> str:
        return "Beginning of Conversation\n"

    def play(self, state: Talk, action: str) -> Move[Talk]:
        after, line = reply(state, action)
        outcome, line = read_deal(line)
        cut = outcome is None and after.lines >= self.max_lines
        if cut:
            outcome, line = read_deal(given_up(after))
        if outcome is None:
            return Move(after, line, 0.0, legal=bool(action))
        sold = outcome.price is not None
        paid = deal_reward(state.buyer.budget, outcome, self.reward)
        return Move(after, line, paid, "cut" if cut else "won" if sold else "lost", legal=bool(action))

    def actions(self, state: Talk) -> Sequence[str]:
        """Questions, a farewell, and offers from 60 to 110 percent of the list price with and without the wishes."""
        buyer = state.buyer
        car, wishes = f"the {buyer.brand} {buyer.kind}", " and ".join(buyer.features)
        prices = [buyer.msrp * percent // 100 for percent in range(60, 111, 5)]
        offers = [f"I offer {car} for ${price:,}." for price in prices]
        offers += [f"I offer {car} with {wishes} for ${price:,}." for price in prices]
        return ["What are you looking for?", "What is your budget?", "Then I cannot help you, goodbye.", *offers]

    def best(self, state: Talk) -> str:
        """The line with the greatest reward, by one who knows the buyer: the limit with all wishes, or no sale."""
        buyer = state.buyer
        price = buyer.limit(frozenset(buyer.features))
        rewards = [deal_reward(buyer.budget, Deal(buyer.msrp, bought), self.reward) for bought in (price, None)]
        if rewards[0] < rewards[1]:
            return "Then I cannot help you, goodbye."
        wishes = " and ".join(buyer.features)
        return f"I offer the {buyer.brand} {buyer.kind} with {wishes} for ${price:,}."


plugin = CarDealer
