"""Step beams: the case of the specification, exhaustive search, groups, limits; and revisions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmrl.ops.scores import Aggregation, aggregate
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.tree import SearchTree
from llmrl.search.beam import Beam
from llmrl.search.refine import INSTRUCTION
from llmrl.types import Completion
from tests.unit.search.worlds import CHAT, PROBLEM, TOKENIZER, Letters, TextJudge, engine, search, word_of

CASE = {"a": [0.9, 0.5], "b": [0.7, 0.8], "c": [0.95, 0.2], "d": [0.6, 0.7]}  # beam_prm: step probabilities


@pytest.mark.parametrize(("how", "kept"), [("min", "bd"), ("prod", "ba"), ("last", "bd")])
def test_the_beams_of_the_case_are_kept(how: Aggregation, kept: str) -> None:
    tree = SearchTree(PROBLEM, [1], CHAT.text)
    for letter in CASE:
        ids = TOKENIZER(letter, add_special_tokens=False)["input_ids"]
        tree.add(tree.root, Completion(token_ids=ids, logprobs=[0.0], finish="stop", version=0), "step")
    judge = AnswerJudge(TextJudge(lambda text: aggregate(CASE[text], how)))
    beams = asyncio.run(Beam(width=2)._kept(tree, judge, tree.root.children))
    assert "".join(node.text for node in beams) == kept


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_full_width_is_exhaustive_search(seed: int) -> None:
    world = Letters.random(seed, branch=3, depth=3)
    found = search(Beam(width=27, branch=3), engine(world.reply), world.mean_below)
    assert word_of(found.trajectory.text) == world.optimum
    assert {word_of(found.tree.text(leaf)) for leaf in found.tree.leaves()} == set(world.leaves)


@pytest.mark.parametrize("seed", range(5))
def test_with_exact_values_a_single_beam_finds_the_optimum(seed: int) -> None:
    world = Letters.random(seed, branch=3, depth=4)
    found = search(Beam(width=1, branch=3), engine(world.reply), world.best_below)
    assert word_of(found.trajectory.text) == world.optimum
    assert len(found.tree.nodes) == 1 + 4 * 3


def test_equal_steps_are_kept_once_and_groups_do_not_compete() -> None:
    """From a a a b a single group of two keeps a and b; with two groups, a holds both: nobody compares them."""

    def reply(prefix: str, _: Any) -> str:
        return "end" if prefix else next(said)

    said = iter(["a\n", "a\n", "a\n", "b\n"])
    value = {"a\n": 0.9, "b\n": 0.1, "a\nend": 0.9, "b\nend": 0.1}.get
    tree = search(Beam(width=2, branch=2, max_steps=2), reply, value).tree
    assert sorted(node.text for node in tree.root.children if node.children) == ["a\n", "b\n"]
    said = iter(["a\n", "a\n", "a\n", "b\n"])
    tree = search(Beam(width=2, branch=2, groups=2, max_steps=2), reply, value).tree
    assert [node.text for node in tree.root.children if node.children] == ["a\n", "a\n"]


def test_a_finished_answer_competes_with_unfinished_ones() -> None:
    def reply(prefix: str, _: Any) -> str:
        return next(said) if not prefix else "no"

    said = iter(["done", "go on\n"])
    value = {"done": 0.8, "go on\n": 0.9, "go on\nno": 0.1}.get
    assert search(Beam(width=2, branch=1), reply, value).trajectory.text == "done"


def test_limits_end_a_search_with_what_there_is() -> None:
    world = Letters.random(0, branch=2, depth=5)
    cut = search(Beam(width=1, branch=2), engine(world.reply), world.best_below, budget=10)
    assert cut.tokens <= 10
    assert cut.trajectory.truncated
    short = search(Beam(width=1, branch=2, max_steps=2), engine(world.reply), world.best_below)
    assert len(word_of(short.trajectory.text)) == 2
    assert short.trajectory.truncated, "its end was not reached"
    with pytest.raises(ValueError, match="groups that divide the width"):
        Beam(width=3, groups=2)


def test_tokens_of_the_steps_are_the_answers() -> None:
    """The answer's ids are those that the engine gave, step by step, and every step went on from ids alone."""
    world = Letters.random(1, branch=2, depth=3)
    asked = engine(world.reply)
    found = search(Beam(width=1, branch=2), asked, world.best_below)
    (turn,) = found.trajectory.turns
    path = found.chosen.path()
    assert list(turn.completion.token_ids) == [token for node in path for token in node.completion.token_ids]
    prompts = [ids for ids, _ in asked.calls]
    assert [*turn.prompt_ids, *turn.completion.token_ids[:4]] in prompts
    assert turn.completion.finish == "stop"


def test_revisions_go_on_from_the_best_version() -> None:
    """Versions worse, better, worse: the second is revised twice, and returned with the turns on the way to it."""
    prompts: list[str] = []

    def reply(prompt: str, _: Any) -> str:
        prompts.append(prompt)
        return ["first", "better", "worse", "worst"][len(prompts) - 1]

    asked = engine(["x"])
    asked.options.__dict__["replies"] = reply
    values = {"first": 0.5, "better": 0.9, "worse": 0.4, "worst": 0.3}
    found = search({"name": "refine", "rounds": 3}, asked, values.get)
    assert found.trajectory.text == "better"
    assert [turn.text for turn in found.trajectory.turns] == ["first", "better"]
    assert found.trajectory.turns[0].reply[0]["content"] == INSTRUCTION
    assert "first" in prompts[1]
    assert INSTRUCTION in prompts[1]
    for later in prompts[2:]:
        assert "better" in later
        assert "first" not in later, "a prompt holds one answer"
    first, second = found.trajectory.turns
    assert second.observed_after(first) is not None, "a row of two turns, as an environment would have made it"
    assert [node.operator for node in found.tree.nodes[1:]] == ["generate", "refine", "refine", "refine"]
