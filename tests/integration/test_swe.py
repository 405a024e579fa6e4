"""An agent on repositories in whole runs: a random policy plays, is judged by tests, learns by GRPO and by ArCHer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmrl.datagen.swe_trajectories import write
from llmrl.errors import DataError
from llmrl.evaluation.run import EvalSetup, Plan, run
from llmrl.evaluation.swe_bench import options_of
from llmrl.recipe import parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from tests import swe_calculator

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {"algorithm": {"name": "grpo", "credit_level": "turn"}},
    "archer": {
        "algorithm": {"name": "archer", "critic_warmup": 1, "critic_steps": 2, "actor_steps": 1},
        "source": {"name": "replay", "turns": 16, "proposals": 4},
        "critic": {"learning_rate": 1e-3},
    },
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_agent_trains(name: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    recipe = parse(
        {
            "model": {"policy": str(tiny_model_dir)},
            "data": {"name": "bug_fixes", "count": 2},
            "env": {"name": "swe", "timeout_s": 30.0, "max_steps": 2},
            "reward": {"name": "environment"},
            "engine": {"name": "tests.integration.test_archer:Brief"},
            "rollout": {
                "num_generations": 2,
                "prompts_per_step": 2,
                "max_turns": 2,
                "max_prompt_length": 1500,
                "max_completion_length": 8,
                "max_reply_length": 500,
            },
            "train": {
                "max_steps": 2,
                "learning_rate": 1e-3,
                "output_dir": str(tmp_path),
                "run_name": name,
                "report_to": "none",
                "save_steps": 0,
            },
            **ALGORITHMS[name],
        }
    )
    with Run(recipe) as trained:
        train(trained)
    lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert lines[-1]["env/steps"] >= 1.0
    assert lines[-1]["accuracy"] == 0.0
    assert write(tmp_path / name, tmp_path / "none.jsonl") == 0
    assert write(tmp_path / name, tmp_path / "all.jsonl", least=0.0) > 0
    row = json.loads((tmp_path / "all.jsonl").read_text().splitlines()[0])
    assert [message["role"] for message in row["messages"]][:3] == ["system", "user", "assistant"]
    assert "BEGIN FUNCTION #1: bash" in row["messages"][0]["content"]
    with pytest.raises(DataError, match="is there already"):
        write(tmp_path / name, tmp_path / "all.jsonl")


BENCHMARK = """
from llmrl.protocols import Benchmark
from llmrl.types import Sampling

VALUE = Benchmark(
    data={{"name": "swe_bench", "path": {path!r}}},
    reward={{"name": "swe_patch"}},
    sampling=Sampling(temperature=0.0, max_tokens=8),
    method="agentless",
    judged=False,
)
"""


def test_a_checkpoint_is_evaluated(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model names no files and writes no patch: all numbers are 0, and the predictions are there."""
    row = swe_calculator.made(tmp_path / "clones")
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "calculator_benchmark.py").write_text(BENCHMARK.format(path=str(tmp_path / "rows.jsonl")))
    monkeypatch.syspath_prepend(str(tmp_path))
    for grade in ("none", "local"):
        options = options_of(grade, {"repos": str(tmp_path / "clones"), "samples": 2, "localisations": 2})
        setup = EvalSetup(engine="hf", max_prompt_tokens=3000, swe=options)
        results = run(str(tiny_model_dir), ["calculator_benchmark:VALUE"], tmp_path / grade, Plan(), setup, quiet=True)
        (result,) = results.values()
        assert result["parts"]["predicted"] == result["parts"]["localised"] == 0.0
        assert bool(result["metrics"]) == (grade == "local")
        predictions = (tmp_path / grade / "calculator_benchmark.VALUE.predictions.jsonl").read_text().splitlines()
        assert [json.loads(line)["model_patch"] for line in predictions] == [""]
        stages = (tmp_path / grade / "calculator_benchmark.VALUE.stages.jsonl").read_text().splitlines()
        assert len(stages) == 2
