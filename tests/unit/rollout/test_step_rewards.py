"""Positions of the rewards of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.oreal import Oreal
from llmrl.chat import Chat
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.envs.single_turn import SingleTurn
from llmrl.errors import RecipeError, RewardError
from llmrl.ops.credit import total
from llmrl.plugins import build
from llmrl.recipe import RolloutOptions
from llmrl.rollout.samples import to_samples
from llmrl.rollout.step_rewards import last_tokens, placed
from llmrl.rollout.worker import RolloutWorker
from llmrl.samples import Sample
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.tiny import make_tokenizer
from llmrl.types import Completion, Problem, Score, Trajectory, Turn
from tests import builders

PROBLEM = Problem(id="sum", messages=[{"role": "user", "content": "1+1="}], answer="2")
TEXT = "Öl für 3 €:\n\nzwei 猫 und 🙂🙂.\n\nSo 1+1=2.\n\n#### 2"


def merging() -> Any:
    """A byte-level tokenizer whose tokens run across steps: `.\\n\\n` and `\\n\\nSo` are one token each."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), (".", "ĊĊ"), ("S", "o"), ("ĊĊ", "So"), ("Ã", "¼"), ("f", "Ã¼")]
    tokens = ["<end>", *alphabet, *(a + b for a, b in merges)]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", clean_up_tokenization_spaces=False)


CHATS = {"bytes": Chat(make_tokenizer()), "merging": Chat(merging())}


def ids(chat: Chat, text: str) -> list[int]:
    return [*chat.tokenizer(text, add_special_tokens=False)["input_ids"], chat.tokenizer.eos_token_id]


def said(chat: Chat, token_ids: Sequence[int]) -> list[int]:
    """The slow way: characters of the whole text that each prefix of the tokens has, one entry per token."""
    whole, counts = chat.text(token_ids), []
    for stop in range(1, len(token_ids) + 1):
        text = chat.text(token_ids[:stop])
        counts.append(next((i for i, c in enumerate(text) if c != whole[i]), len(text)))
    return counts


def expected(counts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """For each stretch, the first of the tokens that say the most of it, else the one that ends it."""
    found = []
    for begin, end in zip([0, *ends], ends, strict=False):
        within = [count for count in counts if begin < count <= end]
        found.append(counts.index(max(within)) if within else next(i for i, c in enumerate(counts) if c >= end))
    return found


@pytest.mark.parametrize("name", CHATS)
def test_every_place_of_a_text_of_many_scripts(name: str) -> None:
    chat = CHATS[name]
    token_ids = ids(chat, TEXT * 3)
    counts = said(chat, token_ids)
    for end in range(1, 3 * len(TEXT) + 1):
        assert last_tokens(chat, token_ids, [end]) == expected(counts, [end]), end


@pytest.mark.parametrize("name", CHATS)
def test_random_steps_of_random_tokens(name: str) -> None:
    """Bytes that are no UTF-8, special tokens in the middle: what a policy at the start of its life says."""
    chat, draw = CHATS[name], Random(0)
    for trial in range(30):
        if trial % 2:
            token_ids = [draw.randrange(len(chat.tokenizer)) for _ in range(draw.randrange(1, 120))]
        else:
            pieces = [draw.choice(["\n\n", ".", "So", "für", "€", "🙂", "a", " "]) for _ in range(60)]
            token_ids = ids(chat, "".join(pieces))
        length = len(chat.text(token_ids))
        ends = sorted({draw.randrange(1, length + 1) for _ in range(min(6, length))})
        assert last_tokens(chat, token_ids, ends) == expected(said(chat, token_ids), ends)


def test_a_token_across_two_steps_belongs_to_the_second() -> None:
    chat = CHATS["merging"]
    text = "a.\n\nSo b"
    tokens = [chat.text([token]) for token in ids(chat, text)]
    assert tokens == ["a", ".\n\n", "So", " ", "b", ""]
    # Cut before the blank line: the token `.\n\n` ends in the second step, so `a` is the last of the first.
    assert last_tokens(chat, ids(chat, text), [2, 8]) == [0, 4]
    # Cut behind it, as the splitter does: the token is the first step's own.
    assert last_tokens(chat, ids(chat, text), [4, 8]) == [1, 4]
    # A step that lies within one token has no token of its own.
    assert last_tokens(chat, ids(chat, text), [1, 2, 8]) == [0, 1, 4]


def test_a_character_of_several_tokens_is_said_by_the_last() -> None:
    chat = CHATS["bytes"]
    assert len(ids(chat, "€x")) == 5
    assert last_tokens(chat, ids(chat, "€x"), [1, 2]) == [2, 3]


def test_no_steps_no_tokens() -> None:
    assert last_tokens(CHATS["bytes"], [], []) == []


class Counting(Chat):
    """Counts the tokens it decodes."""

    decoded = 0

    def text(self, token_ids: Sequence[int]) -> str:
        Counting.decoded += len(token_ids)
        return super().text(token_ids)


def test_a_long_answer_is_not_decoded_again_for_every_step() -> None:
    chat = Counting(make_tokenizer())
    text = "3 € und 4 € sind 7 €.\n" * 400
    token_ids = ids(chat, text)
    Counting.decoded = 0
    found = last_tokens(chat, token_ids, [(i + 1) * 22 for i in range(400)])
    assert found[0] == 27, "22 characters, three of them of three bytes"
    assert found[-1] == len(token_ids) - 2, "the end of sequence says nothing"
    assert Counting.decoded < 30 * len(token_ids)


# Scores


def one(text: str, chat: Chat = CHATS["bytes"], turns: int = 1) -> Trajectory:
    said: list[Turn] = []
    prompt = [1, 2]
    for _ in range(turns):
        token_ids = ids(chat, text)
        completion = Completion(token_ids=token_ids, logprobs=[-1.0] * len(token_ids), finish="stop", version=0)
        said.append(Turn(prompt_ids=prompt, completion=completion, text=chat.text(token_ids)))
        prompt = [*prompt, *token_ids, 5]
    return Trajectory(problem=PROBLEM, turns=said, status="done", group="g")


def test_steps_stand_at_their_last_tokens_in_the_row() -> None:
    chat = CHATS["bytes"]
    trajectory = one("ab\ncd", chat)
    score = placed(trajectory, Score(1.0, steps=[0.5, -0.25], step_ends=[3, 5]), chat)
    assert list(score.token_rewards or ()) == [0, 0, 0.5, 0, -0.25, 0]
    (row,) = to_samples(replace(trajectory, score=score))
    assert row.token_rewards.tolist() == [0, 0, 0, 0, 0.5, 0, -0.25, 0], "two tokens of the prompt before it"
    assert row.reward == 1.0


def test_steps_and_tokens_add_up_and_none_is_lost() -> None:
    chat = CHATS["merging"]
    score = Score(0.0, steps=[1.0, 2.0, 4.0], step_ends=[2, 3, 4], token_rewards=[0.5] * 3)
    moved = placed(one("a.\n\n", chat), score, chat)  # two steps within one token
    assert list(moved.token_rewards or ()) == [1.5, 6.5, 0.5]


def test_only_the_last_turn_is_rewarded() -> None:
    chat = CHATS["bytes"]
    trajectory = one("ab", chat, turns=2)
    score = placed(trajectory, Score(0.0, steps=[1.0], step_ends=[2]), chat)
    (row,) = to_samples(replace(trajectory, score=score))
    assert row.token_rewards.tolist() == [0, 0, 0, 0, 0, 0, 0, 1.0, 0]
    rewritten = [trajectory.turns[0], replace(trajectory.turns[1], prompt_ids=[9])]
    first, second = to_samples(replace(trajectory, turns=rewritten, score=score))
    assert (first.token_rewards.tolist(), second.token_rewards.tolist()) == ([0] * 5, [0, 0, 1.0, 0])


def test_scores_without_places_are_no_rewards() -> None:
    chat = CHATS["bytes"]
    trajectory = one("ab", chat)
    for score in (Score(1.0), Score(1.0, steps=[0.5]), Score(None, "error", steps=[0.5], step_ends=[99])):
        assert placed(trajectory, score, chat) == score
    assert "token_rewards" not in to_samples(replace(trajectory, score=Score(1.0)))[0].columns


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (Score(1.0, token_rewards=[0.0]), "gave 1 token rewards; the last completion has 3 tokens"),
        (Score(1.0, steps=[1.0], step_ends=[1, 2]), "gave 1 steps and 2 ends"),
        (Score(1.0, steps=[1.0], step_ends=[3]), r"ends steps at \[3\]; .* text of 2 characters"),
        (Score(1.0, steps=[1.0, 1.0], step_ends=[2, 1]), r"ends steps at \[2, 1\]"),
    ],
)
def test_dense_rewards_of_something_else_are_refused(score: Score, message: str) -> None:
    with pytest.raises(RewardError, match=f"problem sum: the reward {message}"):
        placed(one("ab"), score, CHATS["bytes"])


# Algorithms that give an episode one credit


def row(episode: int, reward: float, dense: list[float] | None) -> Sample:
    return builders.row("g", episode, reward, turn_rewards=[0.0], token_rewards=dense)


def test_an_episode_earns_its_reward_and_all_its_dense_rewards() -> None:
    assert total([row(0, 1.0, [0, 0.25, -0.5]), row(0, 1.0, [0, 0, 0.5])]) == 1.25
    assert total([row(0, 1.0, None)]) == 1.0


def test_grpo_does_not_ignore_dense_rewards() -> None:
    plain = GRPO().credit([row(i, 1.0, None) for i in (0, 1)])
    assert not plain, "equal rewards teach nothing"
    credited = GRPO().credit([row(0, 1.0, [0, 0.5, 0]), row(1, 1.0, [0, 0, 0])])
    assert [max(one.advantages, key=abs) for one in credited] == pytest.approx([0.7069, -0.7069], abs=1e-3)


def test_an_algorithm_of_right_and_wrong_alone_refuses_them() -> None:
    with pytest.raises(RecipeError, match=r"group g, episode 1: its tokens have rewards of .*, and oreal learns"):
        Oreal().credit([row(0, 1.0, [0, 0, 0]), row(1, 0.0, [0, 0.5, 0])])


# From the reward to the rows


def test_a_played_group_has_its_step_rewards_in_its_rows() -> None:
    engine = ScriptedEngine(
        tokenizer=CHATS["bytes"].tokenizer,
        options=Scripted(replies=("1+1=2\n1+1=3\n2",)),
        stop_token_ids=[CHATS["bytes"].tokenizer.eos_token_id],
    )
    spec = {"name": "mix", "parts": {"numeric": 1.0, "clip_delta": {"weight": 1.0, "form": "clip"}}}
    options = RolloutOptions(num_generations=2, prompts_per_step=1)
    with GradingPool(workers=1, timeout_s=5.0) as pool:
        reward = as_group_reward(build("reward", spec), pool)
        player = RolloutWorker(
            engine=engine, chat=CHATS["bytes"], env=SingleTurn(), reward=reward, options=options, seed=0
        )
        (first, _) = wait(player.run_group(PROBLEM, "0/sum"))
    (made,) = to_samples(first)
    said = len(made.token_ids) - len("1+1=2\n1+1=3\n2") - 1
    placed_at = {i - said: reward for i, reward in enumerate(made.token_rewards) if reward}
    assert placed_at == {12: pytest.approx(-0.07)}, "the wrong line, with the words behind it, ends with the text"
    assert (made.reward, made.correct, made.parts["clip_delta/steps"]) == (1.0, True, 2.0)
