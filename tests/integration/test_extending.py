"""Plug-ins of docs/extending.md, as printed: the algorithm is verified, a model learns by it, and by the others."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from llmrl import recipe
from llmrl.checks.verify.run import exit_code, resolve, verify
from llmrl.evaluation.run import EvalSetup, Plan, run
from llmrl.train.loop import train
from llmrl.train.run import Run
from tests.unit.search.worlds import search

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def printed(language: str) -> list[str]:
    """Blocks of the page, in their order."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return blocks


@pytest.fixture
def reinforce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's file, where Python finds it."""
    path = tmp_path / "reinforce.py"
    path.write_text(printed("python")[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "reinforce", raising=False)
    return path


def test_it_takes_30_lines(reinforce: Path) -> None:
    lines = [line for line in reinforce.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= 30


def test_verify_finds_it_right(reinforce: Path) -> None:
    checks = verify(resolve(["reinforce:Reinforce"]), ["reinforce:Reinforce"])
    assert exit_code(checks) == 0, [check for check in checks if not check.ok]
    assert {check.part for check in checks} == {"differences", "invariances", "learning"}
    assert len([check for check in checks if check.part == "learning"]) == 5


def test_a_recipe_builds_it_and_a_model_learns_by_it(reinforce: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    overrides = [
        "algorithm.name=reinforce:Reinforce",
        f"model.policy={tiny_model_dir}",
        "rollout.prompts_per_step=2",
        "rollout.num_generations=2",
        "train.max_steps=2",
        "eval.every=0",
        "eval.benchmarks=[]",
        f"train.output_dir={tmp_path}",
        "train.report_to=none",
    ]
    made = recipe.read(ROOT / "recipes" / "arithmetic_grpo.yaml", overrides)
    assert type(made.algorithm).__module__ == "reinforce"
    with Run(made, name="mine") as open_run:
        train(open_run)
    assert (tmp_path / "mine" / "final" / "config.json").is_file()


def test_the_task_of_the_page_trains_and_is_evaluated(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write the reward, dataset, environment and benchmark as printed, and train with the keys that the page gives."""
    names = re.findall(r"^`(\w+)\.py`, ", PAGE, re.MULTILINE)
    assert names == ["doubling", "second_chance", "doubling_benchmark"]
    for name, text in zip(["doubled", *names], printed("python")[2:6], strict=True):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = yaml.safe_load(printed("yaml")[2])
    rollout = {"num_generations": 2, "prompts_per_step": 2, "max_completion_length": 4, "max_reply_length": 32}
    made = recipe.parse(
        {
            **keys,
            "model": {"policy": str(tiny_model_dir)},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf", "device": "cpu"},
            "rollout": {**keys["rollout"], **rollout, "max_error_share": 0.0},
            "train": {"max_steps": 1, "output_dir": str(tmp_path), "report_to": "none"},
        }
    )
    with Run(made, name="mine") as open_run:
        train(open_run)
    episodes = [json.loads(line) for line in (tmp_path / "mine" / "rollouts.jsonl").read_text().splitlines()]
    assert len(episodes) == 4
    assert {episode["verdict"] for episode in episodes} <= {"correct", "wrong", "unparsable", "truncated"}
    (results,) = (tmp_path / "mine" / "eval").rglob("results.json")
    assert "doubling_benchmark" in results.read_text(encoding="utf-8")


def test_the_search_of_the_page_answers_a_benchmark(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "until_ahead.py").write_text(printed("python")[6], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "until_ahead", raising=False)
    setup = EvalSetup(engine={"name": "hf", "device": "cpu"}, search="until_ahead:UntilAhead:4")
    (result,) = run(
        str(tiny_model_dir), ["arithmetic"], tmp_path / "eval", Plan(limit=2, max_tokens=4), setup, quiet=True
    ).values()
    assert 8 <= result["mean_tokens"] <= 16, "two to four answers of four tokens"


def test_the_search_of_the_page_stops_when_an_answer_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "until_ahead.py").write_text(printed("python")[6], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "until_ahead", raising=False)
    found = search({"name": "until_ahead:UntilAhead"}, ["1", "2", "2", "3", "2", "2"])
    assert found.trajectory.text == "2"
    assert len(list(found.tree.leaves())) == 6, "1 against 1, then 2 against 1, then 4 against 1"
