"""Trees of a search as stored answers: the tokens that were sampled, rewards by outcome, a tree as a group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import DataError
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.formats import format_of, reader
from llmrl.offline.trees import tree_samples
from llmrl.plugins import build
from llmrl.reasoning.records import node_rows
from llmrl.recipe import RolloutOptions
from llmrl.rollout.context import SourceContext
from tests.unit.search.worlds import CHAT, search

OPTIONS = RolloutOptions(max_completion_length=24, max_prompt_length=64, prompts_per_step=1)
ENCODER = AnswerEncoder(CHAT, OPTIONS)


def rows(tree_id: str = "p/0") -> list[dict[str, Any]]:
    """The nodes of a search for three answers: 4, 5, and 4 again."""
    found = search({"name": "best_of_n", "n": 3}, ["4", "5", "4"], lambda text: 0.25 * int(text))
    return [json.loads(json.dumps(row)) for row in node_rows(found.tree, tree_id)]


def placed(values: list[dict[str, Any]]) -> list[Row]:
    return [Row(value, f"trees.jsonl:{i + 1}", i) for i, value in enumerate(values)]


def outcomes(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"outcome": {"4": "correct", "5": "wrong"}.get(row["text"])} for row in values]


def test_answers_of_a_tree_are_a_group_in_the_tokens_that_were_sampled() -> None:
    nodes = placed(outcomes(rows()))
    assert format_of(nodes[0]) == format_of(nodes[1]) == "tree"
    samples = tree_samples(ENCODER, nodes, "0/0")
    assert [sample.reward for sample in samples] == [1.0, 0.0, 1.0]
    assert [sample.correct for sample in samples] == [True, False, True]
    assert [(sample.group, sample.episode) for sample in samples] == [("0/0", i) for i in range(3)]
    for sample, node in zip(samples, nodes[1:], strict=True):
        assert sample.token_ids[sample.action_mask].tolist() == node.values["token_ids"]
        assert sample.token_ids[~sample.action_mask].tolist() == nodes[0].values["prompt_ids"]
        assert sample.sampled_logprobs[sample.action_mask].tolist() == [-0.5] * sample.actions
        assert sample.numbers.keys() == {"depth", "visits", "q"}


def test_without_an_outcome_the_judge_counts_and_without_both_nothing() -> None:
    assert [sample.reward for sample in tree_samples(ENCODER, placed(rows()), "g")] == [1.0, 1.25, 1.0]
    bare = [row | {"reward": None} for row in rows()]
    with pytest.raises(LeftOutError, match="no whole answer with a reward"):
        tree_samples(ENCODER, placed(bare), "g")


def test_tokens_of_another_model_and_broken_trees_are_refused() -> None:
    other = AnswerEncoder(Chat(CHAT.tokenizer, system_prompt="Be brief."), OPTIONS)
    with pytest.raises(DataError, match=r"^trees.jsonl:1: the tree's tokens are not those that this model's"):
        tree_samples(other, placed(rows()), "g")
    with pytest.raises(DataError, match=r"^trees.jsonl:1: a node without .*expected what `llmrl data search` writes"):
        tree_samples(ENCODER, placed(rows()[1:]), "g")
    with pytest.raises(DataError, match=r"source\.format tree: its rows are nodes"):
        reader("tree")


@pytest.mark.parametrize("shuffle", ["window", "index", "none"])
def test_a_source_reads_a_tree_at_a_time(shuffle: str, tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    lines = [row for tree in range(3) for row in outcomes(rows(f"p/{tree}"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    plugin = build("source", {"name": "offline", "path": str(path), "shuffle": shuffle})
    source = plugin.start(SourceContext(chat=CHAT, options=OPTIONS, seed=0, folder=tmp_path))
    data: Mapping[str, Any] = source.data
    assert data["format"] == "tree"
    steps = [source.next(step) for step in range(3)]
    assert [len(samples) for samples in steps] == [3, 3, 3]
    assert {samples[0].group for samples in steps} == {"0/0", "0/4", "0/8"}
