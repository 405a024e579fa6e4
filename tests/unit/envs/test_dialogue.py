"""Conversations with simulated users, and the penalty for their disagreement."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from llmrl import plugins
from llmrl.aio import wait
from llmrl.dialogue.episode import DialogueEpisode
from llmrl.dialogue.simulator import UserReply, UserSimulator
from llmrl.envs.dialogue import Dialogue
from llmrl.errors import DataError, RecipeError, RewardError
from llmrl.games.buyer import drawn
from llmrl.simulators.car_buyer import CarBuyer
from llmrl.simulators.chat_model import ChatModel
from llmrl.types import Message, Observation, Problem
from tests.http_server import HttpServer

ASKED = Problem(id="q", messages=[{"role": "system", "content": "Help."}, {"role": "user", "content": "A printer:"}])
CARS = [Problem(id=f"car/{n}", messages=ASKED.messages, info={"start": str(n)}) for n in range(12)]


@dataclass(frozen=True)
class Fixed:
    """Leaves where the policy says bye; rates as it was told."""

    rating: float

    async def reply(self, problem: Problem, conversation: Sequence[Message]) -> UserReply:
        return UserReply(f"line {len(conversation)}", ends="bye" in str(conversation[-1:]))

    async def rate(self, problem: Problem, conversation: Sequence[Message]) -> float:
        return self.rating


def played(lines: Sequence[str], *ratings: float, **options: Any) -> list[Observation]:
    simulators = [Fixed(rating) for rating in ratings]
    given: dict[str, Any] = {"opens": True, "max_turns": 3, "penalty": 0.5, "correct_from": None} | options
    episode = DialogueEpisode(problem=ASKED, partner=simulators[0], raters=simulators, **given)

    async def run() -> list[Observation]:
        return [await episode.reset(), *[await episode.step({"role": "assistant", "content": line}) for line in lines]]

    return asyncio.run(run())


def test_disagreement_is_a_penalty() -> None:
    """Ratings 1, 0.5 and 0: mean 0.5, standard deviation sqrt(1/6) = 0.4082, of which half is taken off."""
    last = played(["hello", "bye"], 1.0, 0.5, 0.0)[-1]
    assert last.reward == pytest.approx(0.5 - 0.5 * (1 / 6) ** 0.5)
    assert last.metrics["disagreement"] == pytest.approx((1 / 6) ** 0.5)
    assert (last.done, last.cut, last.verdict) == (True, False, None)
    assert played(["bye"], 0.7, 0.7, 0.7)[-1].reward == pytest.approx(0.7)
    assert played(["bye"], 1.0, 0.0, penalty=0.0)[-1].reward == pytest.approx(0.5)


def test_the_user_speaks_first_and_the_last_line_is_rated() -> None:
    seen = played(["a", "b", "c"], 0.6, correct_from=0.5)
    assert seen[0].messages == [ASKED.messages[0], {"role": "user", "content": "A printer:\nline 0"}]
    assert [each.messages[-1]["content"] for each in seen[1:]] == ["line 2", "line 4", "line 6"]
    assert (seen[-1].done, seen[-1].cut, seen[-1].verdict) == (True, True, "correct"), "three lines are the limit"
    silent = played(["bye"], 0.2, opens=False, correct_from=0.5)
    assert silent[0].messages == ASKED.messages
    assert silent[-1].verdict == "wrong"


@dataclass(frozen=True)
class Listening(Fixed):
    """Rates 1 where it has heard nothing but `hello`."""

    async def rate(self, problem: Problem, conversation: Sequence[Message]) -> float:
        return float([said["content"] for said in conversation if said["role"] == "assistant"] == ["hello"])


def test_thoughts_are_for_nobody_else() -> None:
    episode = DialogueEpisode(
        problem=ASKED,
        partner=Listening(0.0),
        raters=[Listening(0.0)],
        opens=True,
        max_turns=1,
        penalty=0.0,
        correct_from=None,
    )

    async def run() -> Observation:
        await episode.reset()
        return await episode.step({"role": "assistant", "content": "<think>Say bye, at 900.</think>\nhello"})

    last = asyncio.run(run())
    assert (last.reward, last.cut) == (1.0, True)


def test_a_rating_out_of_range_is_told() -> None:
    with pytest.raises(RewardError, match=r"rated 7\.0; expected from 0 to 1"):
        played(["bye"], 7.0)


def test_problems_have_partners_and_siblings_the_same() -> None:
    env = Dialogue(simulators=["car_buyer", {"name": "car_buyer", "temper": "rude"}])
    partners = [env.make(problem).partner for problem in CARS]
    assert partners == [env.make(problem).partner for problem in CARS]
    assert len(set(map(repr, partners))) == 2
    assert all(isinstance(partner, UserSimulator) for partner in partners)


def test_buyers_of_other_tempers_disagree_about_a_price() -> None:
    """A toxic buyer pays 0.85 of the list price, a respectful one all of it; all wishes are mentioned."""
    number = next(n for n in range(99) if drawn(n).budget > drawn(n).msrp)
    buyer, problem = drawn(number), Problem(id="c", messages=ASKED.messages, info={"start": str(number)})
    line = f"With {' and '.join(buyer.features)} for ${int(buyer.msrp * 0.93):,}."
    said: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": line}]
    ratings = [wait(CarBuyer(temper=temper).rate(problem, said)) for temper in ("toxic", "respectful")]
    assert ratings == [0.5, 1.0]
    bought = wait(CarBuyer(temper="respectful").reply(problem, said))
    assert bought.ends
    assert "Output" not in bought.text
    assert not wait(CarBuyer(temper="toxic").reply(problem, said)).ends
    assert wait(CarBuyer().rate(problem, said[:1])) == 0.0


def test_a_buyer_needs_a_number() -> None:
    with pytest.raises(DataError, match=r"info\.start is 'None'; simulator car_buyer expects"):
        wait(CarBuyer().reply(ASKED, ()))


def test_a_chat_model_plays_and_rates(server: HttpServer) -> None:
    replies = iter(["I need ink. [END]", "I am content: 8."])
    server.answer = lambda body: (200, {"choices": [{"message": {"content": next(replies)}, "finish_reason": "stop"}]})
    user = ChatModel(url=server.url, model="m", persona="You are in a hurry.", pause_s=0.01)
    said: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    assert wait(user.reply(ASKED, said)) == UserReply("I need ink.", ends=True)
    assert wait(user.rate(ASKED, said)) == 0.8
    first, second = (body["messages"] for body in server.asked)
    assert "You are in a hurry." in first[0]["content"]
    assert "A printer:" in first[0]["content"]
    assert [message["role"] for message in first] == ["system", "user", "assistant", "user"]
    assert first[-1]["content"] == "Yes?", "what the policy said is what the person answers"
    assert "person: Hi\nassistant: Yes?" in second[0]["content"]


def test_a_reply_without_a_grade_costs_the_episode(server: HttpServer) -> None:
    server.answer = lambda body: (200, {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]})
    with pytest.raises(ConnectionError, match=r"simulator chat_model: .*0 numbers from 0 to 10"):
        wait(ChatModel(url=server.url, model="n", retries=0).rate(ASKED, ()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"simulators": []}, "a list of at least one"),
        ({"simulators": ["nobody"]}, "unknown simulator 'nobody'"),
        ({"simulators": ["car_buyer"], "penalty": -1}, "penalty: input should be greater than or equal to 0; found -1"),
        ({"simulators": [{"name": "car_buyer", "temper": "odd"}]}, "temper 'odd'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        plugins.build("env", {"name": "dialogue", **options})
