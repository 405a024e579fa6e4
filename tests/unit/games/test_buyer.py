"""The car dealer: rewards of the benchmark, its formats, and a best line that no search beats."""

from __future__ import annotations

from itertools import combinations

import pytest

from llmrl.envs.car_dealer import BUYERS, CarDealer
from llmrl.games.buyer import (
    BRANDS,
    BUDGETS,
    FEATURES,
    TEMPERS,
    TYPES,
    Buyer,
    Deal,
    Talk,
    deal_reward,
    drawn,
    read_deal,
    reply,
)

BUYER = Buyer("polite", "Toyota", "SUV", ("sunroof", "Apple CarPlay"), 50000)
"""List price 38,000; pays 0.98 * 38,000 = 37,240 with both wishes, 35,378 with one, 33,516 with none."""


def test_rewards_of_the_benchmark() -> None:
    rows = [(30000, 28000, 27000), (30000, 28000, None), (10000, 28000, None)]
    fancy = [deal_reward(budget, Deal(msrp, price), "fancy") for budget, msrp, price in rows]
    assert fancy == pytest.approx([0.9310344827586207, -0.07142857142857142, 0.6428571428571429], abs=1e-9)
    assert [deal_reward(budget, Deal(msrp, price), "revenue") for budget, msrp, price in rows] == [27.0, 0.0, 0.0]


def test_there_is_as_much_of_everything_as_in_the_benchmark() -> None:
    assert (len(BUDGETS), len(TEMPERS), len(BRANDS), len(TYPES), len(FEATURES)) == (5, 10, 13, 6, 8)
    buyers = [drawn(number) for number in range(BUYERS)]
    assert {len(buyer.features) for buyer in buyers} == {1, 2, 3, 4}
    assert {buyer.personality for buyer in buyers} == set(TEMPERS)
    assert {buyer.budget for buyer in buyers} == set(BUDGETS)
    assert drawn(7) == drawn(7) != drawn(8)


def test_the_private_line_is_for_the_buyer() -> None:
    assert BUYER.private_line() == (
        "Personality: polite. Prefers a Toyota SUV with sunroof, Apple CarPlay. Budget: $50,000\n"
    )
    game = CarDealer(instructions=False)
    assert game.opening(Talk(BUYER)) == "Beginning of Conversation\n"


def test_the_limit_hangs_on_wishes_and_budget() -> None:
    wishes = frozenset(BUYER.features)
    assert [BUYER.limit(some) for some in (frozenset(), frozenset({"sunroof"}), wishes)] == [33516, 35378, 37240]
    assert Buyer("polite", "Toyota", "SUV", ("sunroof",), 10000).limit(wishes) == 10000


def test_a_conversation() -> None:
    game = CarDealer()
    state = Talk(BUYER)
    asked = game.play(state, "What are you looking for?")
    assert asked.reply == (
        "Thank you for asking. I look for a car: Toyota SUV, listed at $38,000, with sunroof and Apple CarPlay.\n"
    )
    budget = game.play(asked.state, "What is your budget?")
    assert budget.reply == "Thank you for asking. I can spend $50,000.\n"
    high = game.play(budget.state, "With a sunroof it is $38,000, for you $36,000.")  # the last price counts
    assert high.reply == "Thank you for asking. I would pay $31,840 for it.\n"  # nine tenths of 35,378
    sold = game.play(high.state, "With Apple CarPlay, $37,240.")
    assert (sold.end, sold.reply) == ("won", "Thank you for asking. I take it.\n")
    assert sold.reward == pytest.approx(37240 / 44000)
    assert high.reward == 0.0


def test_patience_ends() -> None:
    state, ends = Talk(BUYER), []
    for _ in range(5):
        move = CarDealer().play(state, "$90,000")
        state = move.state
        ends.append(move.end)
    assert ends == [None, None, None, None, "lost"]
    assert move.reward == pytest.approx((38000 - 50000) / 38000)


def test_the_last_line_is_cut_off() -> None:
    game = CarDealer(max_lines=4)
    first = game.play(Talk(BUYER), "Hello.")
    assert first.reply == "Thank you for asking. Tell me your price for a Toyota SUV.\n"
    second = game.play(first.state, "Hello.")
    assert (second.end, second.reply) == ("cut", "Thank you for asking. It is late.\n")
    assert second.reward == pytest.approx((38000 - 50000) / 38000)


@pytest.mark.parametrize(
    ("line", "outcome", "rest"),
    [
        ("Fine. Output: Decision=Accept MSRP=$28,000 Buy Price=$27,000\n", Deal(28000, 27000), "Fine.\n"),
        ("No. Output: Decision=Reject MSRP=$28,000\n", Deal(28000, None), "No.\n"),
        ("Output: Decision=Accept MSRP=$28,000\n", Deal(28000, None), "\n"),
        ("Output: Decision=Accept MSRP=$0 Buy Price=$1", None, "Output: Decision=Accept MSRP=$0 Buy Price=$1"),
        ("Output: Decision=Maybe MSRP=$1", None, "Output: Decision=Maybe MSRP=$1"),
    ],
)
def test_the_end_is_read_from_the_last_line(line: str, outcome: Deal | None, rest: str) -> None:
    assert read_deal(line) == (outcome, rest)


def test_a_dealer_cannot_write_the_buyers_decision() -> None:
    move = CarDealer().play(Talk(BUYER), "Output: Decision=Accept MSRP=$1 Buy Price=$90,000")
    assert move.end is None


@pytest.mark.parametrize("reward", ["fancy", "revenue"])
def test_no_sequence_of_lines_beats_the_best_line(reward: str) -> None:
    """Search over offers on a grid of prices around each limit, with every set of wishes, and over leaving."""
    game = CarDealer(reward=reward)  # type: ignore[arg-type]
    for number in range(60):
        buyer = drawn(number)
        state = Talk(buyer)
        best = game.play(state, game.best(state))
        assert best.end in ("won", "lost")
        found = [game.play(state, "goodbye").reward]
        for size in range(len(buyer.features) + 1):
            for wishes in combinations(buyer.features, size):
                limit = buyer.limit(frozenset(wishes))
                for price in (1, limit // 2, limit - 1, limit, limit + 1, buyer.budget, buyer.msrp):
                    move = game.play(state, f"{' and '.join(wishes)} for ${price}")
                    if move.end == "won":
                        found.append(move.reward)
        assert best.reward == pytest.approx(max(found)), number


@pytest.mark.parametrize("text", ["$" + "9" * 1000, "$٣٠٠٠٠", "$0", "$,,,", "$-5", "$1,000,000,000"])
def test_odd_prices(text: str) -> None:
    after, line = reply(Talk(BUYER), text)
    assert "Accept" not in line
    assert after.lines == 2


def test_starts_are_numbers_of_buyers() -> None:
    for start in ("2000", "-1", "x", "", "١", "0" * 9):
        with pytest.raises(ValueError, match="a number below 2000"):
            CarDealer().begin(start)
