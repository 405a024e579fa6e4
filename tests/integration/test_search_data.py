"""`llmrl data search` and `from-trees`, from a model folder to rows."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from llmrl.datagen.search import ROWS, TreeSearch, write_rows, write_trees
from llmrl.errors import DataError, RewardError
from llmrl.plugins import build
from llmrl.reasoning.records import read_trees
from llmrl.types import Sampling

HF = {"name": "hf", "device": "cpu"}


def test_trees_and_rows_are_written(tiny_model_dir: Path, tmp_path: Path) -> None:
    options = TreeSearch(
        search={"name": "plan_mcts", "iterations": 4, "step_end": ["e", "a", " "]},
        reward={"name": "numeric"},
        sampling=Sampling(max_tokens=24),
        tokens=200,
    )
    data = {"name": "gsm8k", "split": "tiny"}
    out = tmp_path / "trees.jsonl"
    counts = write_trees(str(tiny_model_dir), data, out, options, engine=HF, limit=3)
    trees = list(read_trees(out))
    assert counts["trees"] == len(trees) == 3
    assert counts["nodes"] == sum(len(tree.nodes) for _, tree in trees)
    assert 0 < counts["tokens"] <= 600
    assert {tree_id.rpartition("/")[2] for tree_id, _ in trees} == {"0"}
    again = tmp_path / "again.jsonl"
    write_trees(str(tiny_model_dir), data, again, options, engine=HF, limit=3)
    assert again.read_bytes() == out.read_bytes(), "by the seed, to the bit"
    assert [tree.problem.id for _, tree in trees] == [
        problem.id for problem in islice(build("data", data).problems(), 3)
    ]
    for kind in ROWS:
        rows = tmp_path / f"{kind}.jsonl"
        assert write_rows(out, kind, rows) == len(rows.read_text().splitlines())
    assert all(json.loads(line)["tree_id"] for line in (tmp_path / "stepwise.jsonl").read_text().splitlines())
    with pytest.raises(DataError, match="is there already"):
        write_rows(out, "sft", tmp_path / "sft.jsonl")
    with pytest.raises(DataError, match="no such file"):
        write_rows(tmp_path / "none.jsonl", "sft", tmp_path / "x.jsonl")


def test_a_verifier_is_no_judge_of_beginnings(tiny_model_dir: Path, tmp_path: Path) -> None:
    """It misses the reference answer, which a judge never gets, in data generation neither."""
    search = {"name": "plan_mcts", "iterations": 9, "step_end": ["e", "a", " "]}
    options = TreeSearch(search=search, reward="numeric", judge="numeric", sampling=Sampling(max_tokens=24), trees=9)
    data = {"name": "gsm8k", "split": "tiny"}
    with pytest.raises(RewardError, match=r"none of the first 8 answers a value.*A search knows no reference answer"):
        write_trees(str(tiny_model_dir), data, tmp_path / "trees.jsonl", options, engine=HF, limit=3)
