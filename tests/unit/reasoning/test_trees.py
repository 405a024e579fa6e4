"""Trees on disk and back, and the rows that are made of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import DataError, RecipeError
from llmrl.plugins import build
from llmrl.reasoning.export import preference_rows, sft_rows, stepwise_rows
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.records import node_rows, read_trees
from llmrl.reasoning.searcher import Searched, Searcher, parse_search
from llmrl.reward_models.preferences import pairs
from llmrl.reward_models.stepwise import stepwise
from llmrl.types import Sampling
from tests.builders import Grader
from tests.unit.search.worlds import CHAT, PROBLEM, Letters, TextJudge, engine, search, word_of


def stored(found: Searched, path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in node_rows(found.tree, "t")), encoding="utf-8")
    return path


@pytest.mark.parametrize("spec", ["plan_mcts:6", "x1_mcts:6", "beam:2", "refine:2", "best_of_n:3"])
def test_a_tree_round_trips(spec: str, tmp_path: Path) -> None:
    world = Letters.random(4, branch=2, depth=3)

    found = search(parse_search(spec), engine(world.reply), lambda text: 0.25 + 0.5 * text.startswith("a"))
    ((tree_id, tree),) = read_trees(stored(found, tmp_path / "trees.jsonl"))
    assert tree_id == "t"
    assert list(node_rows(tree, "t")) == list(node_rows(found.tree, "t"))
    for mine, theirs in zip(tree.nodes, found.tree.nodes, strict=True):
        assert tree.prefix_ids(mine) == found.tree.prefix_ids(theirs)
        assert tree.text(mine) == found.tree.text(theirs)
    assert all("CANARY" not in json.dumps(row) for row in node_rows(tree, "t"))


def test_a_line_that_is_no_node_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    path.write_text('{"tree_id": "t", "node_id": 3, "parent_ids": [1]}\n')
    with pytest.raises(DataError, match=r"trees.jsonl:1: a node without 1; expected what"):
        list(read_trees(path))
    path.write_text("{}\n")
    with pytest.raises(DataError, match=r"trees.jsonl:1: no node of a tree"):
        list(read_trees(path))


def generated(spec: Any, world: Letters, right: str, value: Any = None) -> Searched:
    """A search whose whole answers are judged against the reference: the word `right`."""
    gold = Grader(lambda one: one.problem is PROBLEM and word_of(one.text) == right)
    judge = None if value is None else AnswerJudge(TextJudge(value))
    searcher = Searcher(
        engine=engine(world.reply), chat=CHAT, strategy=build("search", spec, "search"), judge=judge, gold=gold
    )
    return asyncio.run(searcher.play(PROBLEM, Sampling(max_tokens=64, seed=3)))


PLAN = {"name": "plan_mcts", "iterations": 50, "children": 2, "root_children": 2}


def test_rows_of_a_tree_by_hand(tmp_path: Path) -> None:
    """Two steps of two letters, "ba" right: visits and values by the rules, and the three kinds of rows from them."""
    found = generated(PLAN, Letters.random(0, branch=2, depth=2), "ba")
    nodes = {word_of(found.tree.text(node)): node for node in found.tree.nodes[1:]}
    assert {word: node.outcome for word, node in nodes.items()} == {
        "a": None,
        "b": None,
        "aa": "wrong",
        "ab": "wrong",
        "ba": "correct",
        "bb": "wrong",
    }
    # a: its own value 0 and two wrong answers; b: 0, one right and one wrong
    assert [nodes["a"].q, nodes["b"].q] == pytest.approx([-2 / 3, 0.0])

    (demonstration,) = sft_rows(found.tree)
    assert demonstration["prompt"] == PROBLEM.messages
    assert demonstration["completion"] == [{"role": "assistant", "content": "b\na"}]

    labels = {"".join(row["completions"]): row["labels"] for row in stepwise_rows(found.tree)}
    assert labels == {
        "aa": pytest.approx([1 / 6, 0.0]),
        "ab": pytest.approx([1 / 6, 0.0]),
        "ba": pytest.approx([0.5, 1.0]),
        "bb": pytest.approx([0.5, 0.0]),
    }
    (pair,) = preference_rows(found.tree)  # a and b: b is not above 0; below b the right answer beats the wrong one
    assert (pair["prefix"], pair["chosen"], pair["rejected"], pair["kind"]) == ("b\n", "a", "b", "solution")
    assert (pair["q_chosen"], pair["q_rejected"], pair["depth"]) == (0.3, -0.3, 2)
    assert CHAT.text(pair["prefix_ids"]).endswith("b\n")
    assert [CHAT.text(pair[key]) for key in ("chosen_ids", "rejected_ids")] == ["a", "b"]

    hard = [row["labels"] for row in stepwise_rows(found.tree, min_visits=4, soft=False)]
    assert hard == [[-100.0, 0.0], [-100.0, 0.0], [-100.0, 1.0], [-100.0, 0.0]]


def test_the_pair_of_the_trace() -> None:
    """A value model that prefers b: the steps themselves are a pair, and malformed children never are."""
    world = Letters.random(0, branch=2, depth=2)
    found = generated(PLAN, world, "ba", lambda text: 0.9 if text.startswith("b") else 0.2)
    kinds = [(row["chosen"], row["rejected"], row["kind"]) for row in preference_rows(found.tree)]
    assert kinds == [("b\n", "a\n", "plan"), ("a", "b", "solution")]
    broken = found.tree.root.children[0]
    broken.outcome = "malformed"
    assert [row["kind"] for row in preference_rows(found.tree)] == ["solution"]


def test_other_readers_take_the_rows(tmp_path: Path) -> None:
    """Whole answers are TRL's preferences, labelled steps TRL's stepwise rows, as the reward models read them."""
    whole = generated({"name": "best_of_n", "n": 3}, Letters(branch=3, depth=1, leaves={}), "b")
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in preference_rows(whole.tree)), encoding="utf-8")
    (pair,) = pairs(path).kept
    assert (pair.chosen.response, pair.rejected.response, pair.margin) == ("b", "a", 2.0)
    steps = generated(PLAN, Letters.random(0, branch=2, depth=2), "ba")
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in stepwise_rows(steps.tree)), encoding="utf-8")
    assert [len(row.labels) for row in stepwise(path).kept] == [2] * 4


def test_majority_is_labelled_too() -> None:
    """Answers that the strategy asked nobody about have outcomes all the same."""
    found = generated({"name": "majority", "n": 3}, Letters(branch=3, depth=1, leaves={}), "b")
    assert [node.outcome for node in found.tree.leaves()] == ["wrong", "correct", "wrong"]


@pytest.mark.parametrize("line", [b"{", b'{"tree_id": "a\xff"}', b"[" * 100_000, b"\0\0", b'{"tree_id": 1}', b"[1]"])
def test_a_broken_line_of_a_file_of_trees_is_one_message(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "trees.jsonl").write_bytes(line + b"\n")
    with pytest.raises(DataError, match=r"trees.jsonl:1"):
        list(read_trees(tmp_path / "trees.jsonl"))


def test_a_search_that_is_no_yaml_is_one_message() -> None:
    for text in ("{name: best_of_n", "{" * 100_000):
        with pytest.raises(RecipeError, match="--search"):
            parse_search(text)
