from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrl.batch import collate
from llmrl.columns import COLUMNS, Declared, filled_by
from llmrl.errors import ColumnError, LlmrlError
from llmrl.protocols import Forward
from llmrl.samples import Sample, prompt_hash, support
from tests.builders import sample as build

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def sample() -> Sample:
    return build(
        reward=1.0,
        token_ids=[5, 6, 7, 8],
        turn_ids=[-1, 0, 0, -1],
        sampled_logprobs=[0.0, -1.0, -2.0, 0.0],
    )


def test_another_picture_is_another_prompt() -> None:
    """Prompts of the same tokens are computed once, and remembered as one: not where their pictures differ."""
    red, blue, again = (replace(sample(), images=[name]) for name in ("red.png", "blue.png", "red.png"))
    assert prompt_hash(red) == prompt_hash(again)
    assert len({prompt_hash(row) for row in (red, blue, sample())}) == 3
    assert red.images == ("red.png",)
    assert collate([red, sample()], pack=False).images == [("red.png",), ()]


def test_a_number_goes_to_action_tokens_only() -> None:
    row = sample().assign(advantages=2, weights=0.25)
    assert row.advantages.tolist() == [0.0, 2.0, 2.0, 0.0]
    assert row.weights.tolist() == [0.0, 0.25, 0.25, 0.0]
    assert row.actions == 2
    assert row.columns["weights"].size == 1, "one number is stored, however many tokens there are"


def test_a_column_loses_what_it_says_of_other_tokens() -> None:
    assert sample().assign(old_logprobs=[-9.0, -1.0, -2.0, -9.0]).old_logprobs.tolist() == [0.0, -1.0, -2.0, 0.0]


def test_assign_leaves_the_original_and_refuses_other_lengths() -> None:
    row = sample()
    row.assign(weights=1.0)
    assert "weights" not in row.columns
    with pytest.raises(ValueError, match=r"advantages: 3 entries for 4 tokens"):
        row.assign(advantages=[1.0, 2.0, 3.0])


def test_columns_are_checked_once_and_never_written_to() -> None:
    row = sample()
    with pytest.raises(ValueError, match="old_logprob: no such column; known: token_ids, turn_ids"):
        row.with_columns(old_logprob=[0.0] * 4)
    with pytest.raises(ValueError, match="values: 2 entries for 4 tokens"):
        row.with_columns(values=[0.0, 1.0])
    with pytest.raises(ValueError, match="read-only"):
        row.sampled_logprobs[0] = 1.0
    mine = np.zeros(4)
    row.with_columns(values=mine)
    mine[0] = 1.0  # whoever made an array may go on with it
    again = replace(row, reward=0.0)
    assert again.columns["token_ids"] is row.columns["token_ids"], "nothing is copied for a fact"


def test_a_sample_has_one_precision() -> None:
    wide, narrow = sample(), replace(sample(), dtype=np.float32)
    assert wide.assign(values=0.1).values[1] == 0.1
    assert narrow.assign(values=[0.1] * 4).values[1] == np.float32(0.1)
    for row, dtype in ((wide, np.float64), (narrow, np.float32)):
        assert {row.assign(advantages=1.0, returns=[2.0] * 4).get(n).dtype for n in ("advantages", "returns")} == {
            np.dtype(dtype)
        }
    kinds = narrow.with_columns(token_rewards=[0.1] * 4)
    assert [kinds.get(name).dtype for name in ("token_ids", "turn_ids")] == [np.int32, np.int16]
    assert kinds.token_rewards.tolist() == [0.1] * 4, "rewards add up on the host as they were given"


def test_a_column_that_nobody_filled_names_who_asked_and_what_fills_it() -> None:
    row, batch = sample(), collate([sample()], pack=False)
    here = rf"{re.escape(__name__)}: test_a_column_that_nobody_filled_names_who_asked_and_what_fills_it reads"
    with pytest.raises(ColumnError, match=rf"^{here} the column old_logprobs, .*; the policy fills .*needs\(\) name"):
        _ = row.old_logprobs
    with pytest.raises(ColumnError, match=rf"^{here} the column values, .*; the critic fills it"):
        _ = batch.values
    with pytest.raises(ColumnError, match=rf"^{here} .*credit\(\) fills it: sample.assign\(value_weights=\.\.\.\)"):
        _ = batch.value_weights
    with pytest.raises(ColumnError, match=rf"^{here} the column values, .*this model gives logprobs; the `model` of"):
        _ = Forward(logprobs=torch.zeros(1, 4), entropy=None).values
    assert issubclass(ColumnError, LlmrlError)
    with pytest.raises(AttributeError, match="'Sample' object has no attribute 'advantage'"):
        _ = row.advantage  # type: ignore[attr-defined]


def test_an_algorithm_is_named_though_ops_read_for_it() -> None:
    from llmrl.algorithms.grpo import GRPO

    rows = [replace(sample(), episode=i, reward=float(i)) for i in (0, 1)]
    with pytest.raises(ColumnError, match=r"^llmrl\.algorithms\.grpo: GRPO\.credit reads the column old_entropy"):
        GRPO(top_entropy_quantile=0.5).credit(rows)


def test_what_is_like_another_is_that_one_until_it_is_filled() -> None:
    row = sample().assign(weights=0.5)
    assert row.value_weights.tolist() == row.weights.tolist()
    assert collate([row], pack=False).value_weights.tolist() == [[0.0, 0.5, 0.5, 0.0]]
    assert row.assign(value_weights=3.0).value_weights.tolist() == [0.0, 3.0, 3.0, 0.0]
    assert row.get("values") is None
    assert row.get("values", 7) == 7


def test_samples_are_compared_and_survive_a_pickle() -> None:
    row = sample().assign(advantages=1.0)
    assert pickle.loads(pickle.dumps(row)) == row
    assert row == sample().assign(advantages=[9.0, 1.0, 1.0, 9.0])
    assert row != sample()
    assert row != replace(row, reward=0.0)
    assert row != replace(row, dtype=np.float32)


def test_a_sample_is_written_as_json() -> None:
    ids, counts = support([(), [6, 2], [7], ()])
    row = replace(sample(), support_ids=ids).with_columns(support_counts=counts).assign(weights=0.5)
    line = json.loads(json.dumps(row.as_dict()))
    assert line["token_ids"] == [5, 6, 7, 8]
    assert line["weights"] == [0.0, 0.5, 0.5, 0.0]
    assert (line["support_ids"], line["support_counts"]) == ([6, 2, 7], [0, 2, 1, 0])
    assert (line["group"], line["status"], line["reward"]) == ("g", "done", 1.0)


def test_a_declared_column_reaches_sample_and_batch() -> None:
    for name in COLUMNS:
        filled = sample().with_columns(**{name: [0, 1, 0, 0]})
        assert filled.get(name).tolist() == [0, 1, 0, 0], name
        assert (name in collate([filled], pack=True).columns) == COLUMNS[name].on_device, name
    assert all(isinstance(column, Declared) and column.about for column in COLUMNS.values())
    assert all(column.field for column in filled_by("policy", "reference", "critic").values())


def test_the_page_has_the_declared_columns() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    types = {"float": "float32"}
    assert rows == [(name, c.filler, types.get(c.dtype, c.dtype), c.about) for name, c in COLUMNS.items()]
