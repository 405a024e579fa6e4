"""Stored answers in tokens: those that the policy would have read and written, or the very ones that were logged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import ColumnError, DataError
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.formats import format_of, reader
from llmrl.recipe import RolloutOptions
from llmrl.rollout.samples import to_samples
from llmrl.run_folder.records import EpisodeRecord
from llmrl.samples import Sample
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Score, Trajectory
from tests.builders import episode, turn

TOKENIZER = make_tokenizer()
CHAT = Chat(TOKENIZER)
ENCODER = AnswerEncoder(CHAT, RolloutOptions(max_completion_length=24, max_prompt_length=64))


def samples(values: dict[str, Any], encoder: AnswerEncoder = ENCODER) -> list[Sample]:
    row = Row(values, "rows.jsonl:1", 0)
    return encoder.samples(reader(format_of(row))(row), "0/0")


def text(sample: Sample, chosen: bool) -> str:
    """Text that the policy chose, or that it was given, special tokens shown."""
    ids = sample.token_ids[sample.action_mask == chosen]
    return str(TOKENIZER.decode(ids.tolist(), skip_special_tokens=False))


def test_a_prompt_and_its_answer_with_the_end_of_the_turn() -> None:
    (made,) = samples({"prompt": "2+2?", "completion": "4", "reward": 0.5})
    assert text(made, False) == "<|user|>2+2?<|end|><|assistant|>"
    assert text(made, True) == "4<|end|>"
    assert (made.group, made.episode, made.reward, made.status, made.truncated) == ("0/0", 0, 0.5, "done", False)
    with pytest.raises(ColumnError, match="sampled_logprobs, which nobody filled"):
        _ = made.sampled_logprobs


def test_the_system_prompt_of_the_recipe_stands_before_it() -> None:
    (made,) = samples(
        {"prompt": "q", "completion": "a"}, replace(ENCODER, chat=replace(CHAT, system_prompt="Be brief."))
    )
    assert text(made, False) == "<|system|>Be brief.<|end|><|user|>q<|end|><|assistant|>"


def test_text_that_spells_a_special_token_is_none() -> None:
    (made,) = samples({"prompt": "q", "completion": "<|end|>"})
    end = TOKENIZER.convert_tokens_to_ids("<|end|>")
    assert made.token_ids[made.action_mask].tolist().count(end) == 1


def test_every_message_of_the_assistant_is_a_turn() -> None:
    said = [("user", "q"), ("assistant", "a"), ("tool", "t"), ("user", "u"), ("assistant", "b")]
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in said]
    messages[1]["reward"], messages[4]["reward"] = 0.25, 0.5
    (made,) = samples({"messages": messages})
    assert text(made, True) == "a<|end|>b<|end|>"
    assert text(made, False) == "<|user|>q<|end|><|assistant|><|tool|>t<|end|><|user|>u<|end|><|assistant|>"
    assert sorted(set(made.turn_ids.tolist())) == [-1, 0, 1]
    assert (made.reward, list(made.turn_rewards)) == (0.75, [0.25, 0.5])


def test_a_pair_is_a_group_of_two_roles() -> None:
    made = samples({"prompt": "q", "chosen": "good", "rejected": "bad", "margin": 2.0})
    assert [(one.group, one.episode, one.role, dict(one.numbers)) for one in made] == [
        ("0/0", 0, "chosen", {"margin": 2.0}),
        ("0/0", 1, "rejected", {"margin": 2.0}),
    ]


def test_a_prefix_is_given() -> None:
    chosen, _ = samples({"prompt": "q", "prefix": "so ", "chosen": "good", "rejected": "bad", "kind": "solution"})
    assert text(chosen, False).endswith("<|assistant|>so ")
    assert text(chosen, True) == "good<|end|>"


@pytest.mark.parametrize("facts", [{}, {"kind": "plan"}])
def test_a_step_in_the_midst_of_an_answer_is_not_ended(facts: dict[str, Any]) -> None:
    made = samples({"prompt": "q", "prefix": "so ", "chosen": "good\n", "rejected": "bad\n", **facts})
    assert [text(one, True) for one in made] == ["good\n", "bad\n"]


def test_the_tokens_of_a_search_are_learned_from_as_they_were_sampled() -> None:
    row = {"prompt": "q", "prefix": "so ", "chosen": "12\n", "rejected": "13\n", "kind": "plan"}
    plain, _ = samples(row)
    before = plain.token_ids[~plain.action_mask].tolist()
    step = [*plain.token_ids[plain.action_mask].tolist(), ENCODER.end]  # the policy sampled an end of its turn, too
    ids = {"prefix_ids": before, "chosen_ids": step, "rejected_ids": step[:1]}
    chosen, rejected = samples(row | ids)
    assert chosen.token_ids.tolist() == before + step
    assert chosen.turn_ids.tolist() == [-1] * len(before) + [0] * len(step)
    assert text(rejected, True) == "13\n", "its tokens do not spell its text"
    other, _ = samples(row | ids | {"prefix_ids": [7, *before]})
    assert other.token_ids.tolist() == plain.token_ids.tolist(), "another chat's tokens"
    with pytest.raises(DataError, match=r"column 'chosen_ids' holds \['a'\]; expected a list of token ids"):
        samples(row | ids | {"chosen_ids": ["a"]})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"prompt": "q" * 70, "completion": "a"}, "prompt longer than rollout.max_prompt_length"),
        ({"prompt": "q", "completion": "a" * 24}, "answer longer than rollout.max_completion_length"),
    ],
)
def test_what_is_too_long_is_left_out_and_never_cut(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(LeftOutError, match=reason):
        samples(values)
    (made,) = samples({"prompt": "q", "completion": "a" * 23})  # and the token that ends it
    assert made.actions == ENCODER.options.max_completion_length


# A run's own episodes


def ids(words: str) -> list[int]:
    return list(TOKENIZER(words, add_special_tokens=False)["input_ids"])


def played(**facts: Any) -> Trajectory:
    """An answer in tokens that its text alone would not give."""
    problem = Problem(id="p", messages=[{"role": "user", "content": "q"}])
    prompt = CHAT.prompt_ids(problem.messages)
    own = [*ids("4"), CHAT.turn_end()]
    one = turn("4", own, prompt=prompt, logprobs=[-0.123456789, -1e-7], version=3)
    return replace(episode(one, problem=problem, score=Score(1.0, "correct"), group="5/p", episode=1), **facts)


def stored(trajectory: Trajectory, with_tokens: bool = True) -> Row:
    tokens = sum(len(one.completion.token_ids) for one in trajectory.turns)
    record = EpisodeRecord(step=2, trajectory=trajectory, tokens=tokens)
    return Row(json.loads(json.dumps(record.to_json(with_tokens=with_tokens))), "rollouts.jsonl:1", 0)


def test_logged_tokens_come_back_bit_for_bit() -> None:
    (made,) = ENCODER.episodes([stored(played())], "0/0")
    (expected,) = to_samples(played())
    assert made == replace(expected, group="0/0")
    assert made.sampled_logprobs.tobytes() == expected.sampled_logprobs.tobytes()


def test_episodes_without_tokens_are_encoded_anew() -> None:
    earned = played(turns=[replace(played().turns[0], reward=0.25)])
    (made,) = ENCODER.episodes([stored(earned, with_tokens=False)], "0/0")
    (expected,) = to_samples(earned)
    assert (made.reward, list(made.turn_rewards)) == (expected.reward, [0.25])
    assert made.token_ids.tolist() == expected.token_ids.tolist()
    assert "sampled_logprobs" not in made.columns


def test_tokens_of_another_tokenizer_are_not_believed() -> None:
    other = replace(played().turns[0], text="5")
    (made,) = ENCODER.episodes([stored(played(turns=[other]))], "0/0")
    assert text(made, True) == "5<|end|>"
    assert "sampled_logprobs" not in made.columns


def test_an_answer_that_was_cut_off_has_no_end() -> None:
    cut = turn("5", [1], prompt=[], finish="length")
    (made,) = ENCODER.episodes([stored(played(turns=[cut], status="max_tokens"), with_tokens=False)], "0/0")
    assert text(made, True) == "5"
    assert made.truncated


def test_a_group_that_nobody_scored_is_left_out() -> None:
    with pytest.raises(LeftOutError, match="not scored"):
        ENCODER.episodes([stored(played(score=Score(None, "error")))], "0/0")
    with pytest.raises(DataError, match=r"^r:1: no record of an episode: KeyError"):
        ENCODER.episodes([Row({"step": 1}, "r:1", 0)], "0/0")
