"""A template that opens the thoughts for the policy: verifiers see that they are thoughts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.checks.attacks.attempts import honest
from llmrl.checks.attacks.problems import known
from llmrl.datafiles.rows import Row
from llmrl.datagen.step_labels import Labelling, label
from llmrl.evaluation.generators import EngineGenerator
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.example import answered
from llmrl.plugins import build
from llmrl.reasoning.searcher import Searcher
from llmrl.recipe import RolloutOptions
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Sampling, Score, Trajectory
from tests import builders
from tests.unit.gateway import served

OPENS = "{%- for message in messages -%}{{- message.content -}}{%- endfor -%}{{- '\n<think>\n' -}}"
CLOSES = OPENS.replace("<think>\n", "<think>\n\n</think>\n\n")


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout_s=30.0) as pool:
        yield pool


def score(pool: GradingPool, name: str, text: str, opened: str = "<think>\n", **options: Any) -> Score:
    turn = replace(builders.turn(text), opened=opened)
    episode = builders.episode(turn, problem=Problem(id="a", messages=(), answer="4"))
    return asyncio.run(as_group_reward(build("reward", {"name": name, **options}), pool).score([episode]))[0]


@pytest.mark.parametrize(("template", "opened"), [(OPENS, "<think>\n"), (CLOSES, "")])
def test_the_end_of_a_prompt_tells_what_it_opened(template: str, opened: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    chat = Chat(tokenizer)
    assert chat.opened(chat.prompt_ids([{"role": "user", "content": "2+2"}])) == opened


def test_a_well_formed_answer_has_the_form(pool: GradingPool) -> None:
    text = "so\n</think>\n<answer>4</answer>"
    assert score(pool, "format", text).value == 1.0
    assert score(pool, "format", text, opened="").value == 0.0
    assert score(pool, "math_verify", text).verdict == "correct"


@pytest.mark.parametrize("name", ["math_verify", "numeric", "exact", "choice"])
def test_what_stands_in_the_thoughts_alone_is_no_answer(pool: GradingPool, name: str) -> None:
    options: dict[str, Any] = {"first_index": 3} if name == "choice" else {}
    for text in ("The answer is 4.", "\\boxed{4}", "The answer is B."):
        assert score(pool, name, text, "<think>\n", **options).value == 0.0
    assert score(pool, "math_verify", "The answer is 4.", opened="").value == 1.0


def test_steps_end_in_the_text_of_the_completion(pool: GradingPool) -> None:
    text = "1 + 1 = 2\n2 + 2 = 5\n"
    given = score(pool, "steps_rule", text)
    assert (given.steps, given.step_ends) == ([1.0, 0.0], [10, len(text)])


QUESTION = Problem(id="p", messages=[{"role": "user", "content": "2+2?"}], answer="4")


def opening() -> Chat:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = OPENS
    return Chat(tokenizer)


def test_an_evaluation_tells() -> None:
    player = EngineGenerator(served.scripted(["so</think>4"]), opening())
    played = asyncio.run(player.generate(QUESTION, Sampling(max_tokens=64)))
    assert played.trajectory.written == "<think>\nso</think>4"


def test_the_gateway_tells() -> None:
    async def work(agent: served.Agent) -> list[str]:
        await agent.say([{"role": "user", "content": "2+2?"}])
        await agent.client.completions.create(model="any", prompt="2+2?<think>")
        await agent.client.completions.create(model="any", prompt="2+2?")
        return [turn.opened for turn in agent.session.turns()]

    assert served.play(served.scripted(["4"] * 3), work, chat=opening()) == ["<think>\n", "<think>", ""]


def test_a_search_tells_its_judge_its_votes_and_its_answer() -> None:
    seen: list[str] = []

    class Judge:
        async def score(self, group: Any) -> list[Score]:
            seen.extend(one.written for one in group)
            return [Score(float(len(one.text))) for one in group]

    texts = ["I guess \\boxed{5}", "\\boxed{5}, no", "x</think>\\boxed{4}"]
    for strategy in ({"name": "best_of_n", "n": 3}, {"name": "majority", "n": 3}):
        from llmrl.reasoning.judge import AnswerJudge

        made = build("search", strategy)
        searcher = Searcher(
            engine=served.scripted(list(texts)), chat=opening(), strategy=made, judge=AnswerJudge(Judge())
        )
        found = asyncio.run(searcher.play(QUESTION, Sampling(max_tokens=64, seed=1)))
        assert found.trajectory.written.startswith("<think>\n")
    assert found.trajectory.text == texts[2], "what stands in the thoughts alone does not vote"
    assert seen[:3] == [f"<think>\n{text}" for text in texts]


def test_stored_answers_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Trajectory] = []
    encoder = AnswerEncoder(opening(), RolloutOptions())

    def fit(encoder: AnswerEncoder, trajectory: Trajectory) -> list[Any]:
        made.append(trajectory)
        return []

    monkeypatch.setattr(AnswerEncoder, "fit", fit)
    row = Row({}, "rows.jsonl:1", 0)
    encoder.samples([answered("2+2?", "so</think>4", row), answered("2+2?", "</think>4", row, prefix="so")], "g")
    assert [one.written for one in made] == ["<think>\nso</think>4", "<think>\nso</think>4"]


def test_labels_of_steps_tell(pool: GradingPool) -> None:
    replies = iter(["a\n</think>5", "</think>4", "\\boxed{4}"])
    player = EngineGenerator(served.scripted(lambda prompt, sampling: next(replies)), opening())
    reward = as_group_reward(build("reward", "math_verify"), pool)
    labels = asyncio.run(label(QUESTION, 0, player, reward, Labelling(completions=2, sampling=Sampling(max_tokens=64))))
    assert labels is not None
    assert labels.counts[0] == 1, "of two completions the one that closes its thoughts is right"


def test_an_audit_attacks_what_the_policy_would_write(pool: GradingPool) -> None:
    reward = as_group_reward(build("reward", "math_verify"), pool)
    for opened in ("", "<think>\n"):
        answers = honest(replace(known(QUESTION), opened=opened), reward)
        assert answers.judges
        assert answers.known.layout.startswith("<think>")
