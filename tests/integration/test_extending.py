"""The algorithm that docs/extending.md shows is one: its very text is verified, and a model learns by it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from llmrl import recipe
from llmrl.checks.verify.run import exit_code, resolve, verify
from llmrl.train.loop import train
from llmrl.train.run import Run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture
def reinforce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's file, where Python finds it."""
    (text,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    path = tmp_path / "reinforce.py"
    path.write_text(text, encoding="utf-8")
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
    with Run(made, name="mine") as run:
        train(run)
    assert (tmp_path / "mine" / "final" / "config.json").is_file()
