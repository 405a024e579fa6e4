"""Rules of the car dealer: buyers, what they would pay, and a scripted one who talks by these rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

BUDGETS = (10000, 30000, 50000, 70000, 90000)
_BRANDS = "Volkswagen Lexus Ford Mazda Hyundai Toyota Mercedes-Benz BMW Audi Subaru Honda Porsche Tesla"
BRANDS = tuple(_BRANDS.split())
TYPES: Mapping[str, int] = {
    "luxury": 60000,
    "sedan": 26000,
    "convertible": 45000,
    "truck": 42000,
    "electric": 48000,
    "SUV": 38000,
}
"""Kinds of cars with the list price of a plain brand, in dollars."""
PREMIUM = {"Porsche": 1.5, "Mercedes-Benz": 1.3, "BMW": 1.25, "Audi": 1.2, "Lexus": 1.2, "Tesla": 1.2}
FEATURES = (
    "backup camera",
    "navigation system",
    "heated seats",
    "leather seats",
    "third-row seating",
    "blind spot monitoring",
    "sunroof",
    "Apple CarPlay",
)


@dataclass(frozen=True, slots=True)
class Temper:
    """Part of a personality that decides a deal."""

    share: float  # of the list price that the buyer would pay at most for a car with all wishes
    patience: int  # offers that are refused before the buyer leaves
    tells: bool  # the budget, when asked
    tone: str  # with which lines begin


TEMPERS: Mapping[str, Temper] = {
    "abusive": Temper(0.86, 1, False, "Listen, you."),
    "angry": Temper(0.88, 1, False, "I have no time for this."),
    "insulting": Temper(0.87, 2, False, "Did you learn this yesterday?"),
    "polite": Temper(0.98, 4, True, "Thank you for asking."),
    "respectful": Temper(1.0, 4, True, "I appreciate your help."),
    "rude": Temper(0.89, 2, False, "Get to the point."),
    "sarcastic": Temper(0.92, 3, False, "Oh, wonderful."),
    "talkative": Temper(0.96, 5, True, "You know, my neighbour bought one last week."),
    "toxic": Temper(0.85, 1, False, "All dealers are the same."),
    "uncommunicative": Temper(0.93, 2, False, "Hm."),
}


@dataclass(frozen=True, slots=True)
class Buyer:
    """A buyer, whose wishes the dealer does not see."""

    personality: str
    brand: str
    kind: str  # one of TYPES
    features: tuple[str, ...]
    budget: int

    @property
    def msrp(self) -> int:
        """List price of the car that the buyer looks for, in dollars."""
        return round(TYPES[self.kind] * PREMIUM.get(self.brand, 1.0) / 100) * 100

    def limit(self, promised: frozenset[str]) -> int:
        """The greatest price that the buyer accepts, in dollars; a tenth of it hangs on the wishes."""
        wishes = len(promised & set(self.features)) / len(self.features)
        return min(self.budget, int(self.msrp * TEMPERS[self.personality].share * (0.9 + 0.1 * wishes)))

    def private_line(self) -> str:
        """The line that a buyer reads before the conversation, and a dealer never."""
        article = "an" if self.brand[0] == "A" else "a"
        wishes = ", ".join(self.features)
        return (
            f"Personality: {self.personality}. Prefers {article} {self.brand} {self.kind} with {wishes}. "
            f"Budget: ${self.budget:,}\n"
        )


def drawn(number: int) -> Buyer:
    """The buyer of a number."""
    random = Random(f"car_dealer/{number}")
    features = tuple(random.sample(FEATURES, k=random.randint(1, 4)))
    names = [random.choice(list(values)) for values in (TEMPERS, BRANDS, TYPES)]
    return Buyer(names[0], names[1], names[2], features, random.choice(BUDGETS))


@dataclass(frozen=True, slots=True)
class Talk:
    """State of a conversation."""

    buyer: Buyer
    promised: frozenset[str] = frozenset()  # wishes that the dealer has mentioned
    refused: int = 0  # offers
    lines: int = 0  # of both


@dataclass(frozen=True, slots=True)
class Deal:
    """End of a conversation, as the last line of the buyer states it."""

    msrp: int
    price: int | None  # None: nothing was bought


PRICE = re.compile(r"\$ ?([0-9][0-9,]{0,10})", re.ASCII)
WISHES = re.compile(r"\b(?:looking for|want|need|wish|prefer|interested|features?|what kind|what car|help you)\b")
BUDGET = re.compile(r"\b(?:budget|spend|afford|price range)\b")
FAREWELL = re.compile(r"\b(?:goodbye|bye|no deal|leave|cannot help)\b")
OUTPUT = re.compile(
    r" ?Output: Decision=(Accept|Reject) MSRP=\$([1-9][0-9,]{0,12})(?: Buy Price=\$([0-9][0-9,]{0,12}))?", re.ASCII
)


def reply(talk: Talk, text: str) -> tuple[Talk, str]:
    """The buyer's answer to a line of the dealer, and the state after it; the last answer holds an `Output:`."""
    buyer, temper, small = talk.buyer, TEMPERS[talk.buyer.personality], text.lower()
    mentioned = {feature for feature in buyer.features if feature.lower() in small}
    talk = replace(talk, promised=talk.promised | mentioned, lines=talk.lines + 2)
    limit = buyer.limit(talk.promised)
    prices = [int(price.replace(",", "")) for price in PRICE.findall(text)]
    car = f"{buyer.brand} {buyer.kind}"
    if prices and 0 < prices[-1] <= limit:
        return talk, f"{temper.tone} I take it. {_accepted(buyer, prices[-1])}"
    if prices:
        talk = replace(talk, refused=talk.refused + 1)
        if talk.refused > temper.patience:
            return talk, f"{temper.tone} I have heard enough. {_rejected(buyer)}"
        return talk, f"{temper.tone} I would pay ${limit * 9 // 10:,} for it.\n"
    if FAREWELL.search(small):
        return talk, f"{temper.tone} Then I go elsewhere. {_rejected(buyer)}"
    if BUDGET.search(small):
        told = f"I can spend ${buyer.budget:,}." if temper.tells else "That is none of your business."
        return talk, f"{temper.tone} {told}\n"
    if WISHES.search(small):
        wishes = " and ".join(buyer.features)
        return talk, f"{temper.tone} I look for a car: {car}, listed at ${buyer.msrp:,}, with {wishes}.\n"
    return talk, f"{temper.tone} Tell me your price for a {car}.\n"


def given_up(talk: Talk) -> str:
    """The buyer's line when there are no lines left."""
    return f"{TEMPERS[talk.buyer.personality].tone} It is late. {_rejected(talk.buyer)}"


def _accepted(buyer: Buyer, price: int) -> str:
    return f"Output: Decision=Accept MSRP=${buyer.msrp:,} Buy Price=${price:,}\n"


def _rejected(buyer: Buyer) -> str:
    return f"Output: Decision=Reject MSRP=${buyer.msrp:,}\n"


def read_deal(line: str) -> tuple[Deal | None, str]:
    """The end that a line of the buyer states, if any, and the line without that statement."""
    match = OUTPUT.search(line)
    if match is None:
        return None, line
    decision, msrp, price = match.groups()
    bought = decision == "Accept" and price is not None
    outcome = Deal(_dollars(msrp), _dollars(price) if bought else None)
    return outcome, line[: match.start()] + line[match.end() :]


def _dollars(text: str) -> int:
    return int(text.replace(",", ""))


def deal_reward(budget: int, outcome: Deal, reward: Literal["fancy", "revenue"]) -> float:
    """Reward of the dealer.

    Args:
        reward: `fancy` is the price over the mean of budget and list price, and without a sale the share of the list
            price that the budget lacks (negative where it lacks nothing); `revenue` is the price in thousands, or 0.
    """
    if reward == "revenue":
        return 0.0 if outcome.price is None else outcome.price / 1000
    if outcome.price is None:
        return (outcome.msrp - budget) / outcome.msrp
    return outcome.price / ((budget + outcome.msrp) / 2)
