"""A buyer of a car, by rules: the one of `car_dealer`, in any temper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmrl.dialogue.simulator import UserReply
from llmrl.errors import DataError
from llmrl.games.buyer import PRICE, TEMPERS, Buyer, Talk, drawn, read_deal, reply
from llmrl.types import Message, Problem


@dataclass(frozen=True, kw_only=True)
class CarBuyer:
    """Options of the simulator `car_buyer`; a problem's `info.start` is the number of its buyer, as in `car_dealer`.

    Half of its rating is the share of the wishes that were mentioned; the other half is given where the last price that
    the dealer named is one that it would pay.
    """

    temper: str | None = None  # personality, which decides what it would pay; None: the buyer's own

    def __post_init__(self) -> None:
        if self.temper is not None and self.temper not in TEMPERS:
            raise ValueError(f"temper {self.temper!r}: expected one of {', '.join(TEMPERS)}")

    async def reply(self, problem: Problem, conversation: Sequence[Message]) -> UserReply:
        """Answer the dealer's last line by the rules of `llmrl.games.buyer`."""
        buyer = self._buyer(problem)
        lines = _lines(conversation)
        if not lines:
            return UserReply(f"{TEMPERS[buyer.personality].tone} I look for a car.")
        talk = Talk(buyer)
        for line in lines:
            talk, answer = reply(talk, line)
        outcome, text = read_deal(answer)
        return UserReply(text.strip(), ends=outcome is not None)

    async def rate(self, problem: Problem, conversation: Sequence[Message]) -> float:
        """Rate by wishes and price."""
        buyer, lines = self._buyer(problem), _lines(conversation)
        spoken = " ".join(lines).lower()
        mentioned = frozenset(feature for feature in buyer.features if feature.lower() in spoken)
        prices = [int(price.replace(",", "")) for line in lines for price in PRICE.findall(line)]
        fair = bool(prices) and 0 < prices[-1] <= buyer.limit(mentioned)
        return 0.5 * len(mentioned) / len(buyer.features) + 0.5 * fair

    def _buyer(self, problem: Problem) -> Buyer:
        start = str(problem.info.get("start"))
        if not (start.isascii() and start.isdigit()):
            raise DataError(
                f"problem {problem.id}: info.start is {start!r:.80}; simulator car_buyer expects a buyer's number: "
                "take data: {name: games, env: {name: car_dealer}}"
            )
        buyer = drawn(int(start))
        return buyer if self.temper is None else replace(buyer, personality=self.temper)


def _lines(conversation: Sequence[Message]) -> list[str]:
    """Lines of the dealer."""
    return [str(message["content"]) for message in conversation if message["role"] == "assistant"]


plugin = CarBuyer
