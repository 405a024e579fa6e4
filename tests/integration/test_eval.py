"""`llmrl eval` from end to end: a model folder, a kill in the middle, a server's URL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import CheckpointError, LlmrlError, RecipeError
from llmrl.evaluation.run import EvalSetup, Plan, run

ROOT = Path(__file__).parents[2]
HF = EvalSetup(engine={"name": "hf", "device": "cpu"}, reward_workers=1)

# An engine without weights that takes its time, and a benchmark of 8 x 5 completions.
SLOW = """
import asyncio, sys
from dataclasses import dataclass
from pathlib import Path

from llmrl.chat import load_tokenizer
from llmrl.evaluation.run import EvalSetup, Plan, run
from llmrl.protocols import Benchmark
from llmrl.types import Completion, Sampling

BENCHMARK = Benchmark(
    data={"name": "gsm8k", "split": "tiny"},
    reward={"name": "numeric"},
    sampling=Sampling(temperature=1.0, max_tokens=8),
    samples=5,
)


@dataclass(frozen=True)
class Slow:
    pause_s: float

    def start(self, model, **options):
        return Running(load_tokenizer(model), self.pause_s)


@dataclass(frozen=True)
class Running:
    tokenizer: object
    pause_s: float

    async def generate(self, prompt_ids, sampling):
        await asyncio.sleep(self.pause_s)
        ids = self.tokenizer(str(sampling.seed % 60), add_special_tokens=False)["input_ids"]
        return Completion(token_ids=ids, logprobs=[0.0] * len(ids), finish="stop", version=0)

    def close(self):
        Path(sys.argv[2], "closed").touch()


if __name__ == "__main__":
    setup = EvalSetup(engine={"name": "slow:Slow", "pause_s": float(sys.argv[3])}, concurrency=2, reward_workers=1)
    run(sys.argv[1], ["slow:BENCHMARK"], Path(sys.argv[2]), Plan(seed=3), setup)
"""


def rows(path: Path) -> list[dict[str, Any]]:
    return sorted(
        (json.loads(line) for line in path.read_text().splitlines()), key=lambda r: (r["problem"], r["sample"])
    )


def start(folder: Path, model: Path, out: Path, pause_s: float) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(folder / "slow.py"), str(model), str(out), str(pause_s)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_killed_evaluation_goes_on_and_ends_alike(tmp_path: Path, tiny_model_dir: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with start(tmp_path, tiny_model_dir, whole, 0.02) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "slow:BENCHMARK: 40/40" in said
    assert "maj@5" in said
    assert (whole / "closed").exists()

    lines = parts / "slow.BENCHMARK.jsonl"
    with start(tmp_path, tiny_model_dir, parts, 0.02) as process:
        limit = time.monotonic() + 120
        while not lines.exists() or lines.read_bytes().count(b"\n") < 10:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    kept = lines.read_bytes().count(b"\n")
    assert 10 <= kept < 40
    with lines.open("r+b") as file:  # as if the machine had stopped in the middle of a line
        file.truncate(lines.stat().st_size - 20)
    with start(tmp_path, tiny_model_dir, parts, 0.02) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert rows(lines) == rows(whole / "slow.BENCHMARK.jsonl")
    assert (parts / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert len({row["completion"] for row in rows(lines)}) > 5


def test_a_model_folder_is_evaluated(tmp_path: Path, tiny_model_dir: Path) -> None:
    plan = Plan(samples=2, limit=3, max_tokens=6)
    results = run(str(tiny_model_dir), ["arithmetic"], tmp_path / "out", plan, HF, quiet=True)
    result = results["arithmetic"]
    assert (result["problems"], result["samples"], result["unjudged"]) == (3, 2, 0)
    assert set(result["metrics"]) == {"avg@2", "pass@2", "maj@2"}
    made = rows(tmp_path / "out" / "arithmetic.jsonl")
    assert len(made) == 6
    assert all(row["tokens"] <= 6 and row["verdict"] in ("correct", "wrong", "truncated", "unparsable") for row in made)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["arithmetic"]
    assert config["player"]["engine"] == {"name": "hf", "device": "cpu"}
    assert config["sampling"]["temperature"] == 0.6
    assert config["player"]["dtype"] == "float32"
    again = run(str(tiny_model_dir), ["arithmetic"], tmp_path / "again", plan, HF, quiet=True)
    assert again == results
    assert rows(tmp_path / "again" / "arithmetic.jsonl") == made


def test_a_prompt_that_does_not_fit_is_counted_apart(tmp_path: Path, tiny_model_dir: Path) -> None:
    setup = EvalSetup(engine=HF.engine, reward_workers=1, max_prompt_tokens=6)
    plan = Plan(limit=40, max_tokens=2)
    result = run(str(tiny_model_dir), ["arithmetic"], tmp_path, plan, setup, quiet=True)["arithmetic"]
    assert result["unjudged"] == result["verdicts"]["error"] > 0
    refused = [row for row in rows(tmp_path / "arithmetic.jsonl") if row["verdict"] == "error"]
    assert all("tokens; at most 6 fit" in row["reason"] for row in refused)


def test_what_is_not_there_is_named(tmp_path: Path, tiny_model_dir: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder here"):
        run(str(tmp_path / "none"), ["arithmetic"], tmp_path, setup=HF, quiet=True)
    with pytest.raises(RecipeError, match="unknown benchmark 'gsm'; did you mean 'gsm8k'"):
        run(str(tiny_model_dir), ["gsm"], tmp_path, setup=HF, quiet=True)
    with pytest.raises(LlmrlError, match=r"is the server running\?"):
        run("http://127.0.0.1:9/v1", ["arithmetic"], tmp_path, setup=HF, quiet=True)


def test_a_search_answers_and_its_tokens_are_counted(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Four answers for each problem, chosen by a reward that reads the text alone."""
    judge = {"name": "length", "unit": "words"}
    setup = replace(HF, search="best_of_n:4", judge=judge, search_tokens=24)
    plan = Plan(limit=3, max_tokens=16)
    (result,) = run(str(tiny_model_dir), ["arithmetic"], tmp_path, plan, setup, quiet=True).values()
    assert result["problems"] == 3
    assert 4 <= result["mean_tokens"] <= 24
    config = json.loads((tmp_path / "config.json").read_text())["arithmetic"]
    assert config["player"]["search"] == {"name": "best_of_n", "n": 4}
    assert config["sampling"]["temperature"] == 0.6
    with pytest.raises(LlmrlError, match="begun with other settings"):
        run(str(tiny_model_dir), ["arithmetic"], tmp_path, plan, replace(setup, search="best_of_n:2"), quiet=True)
    with pytest.raises(RecipeError, match="compares answers by a judge"):
        run(str(tiny_model_dir), ["arithmetic"], tmp_path / "b", plan, replace(setup, judge=None), quiet=True)
    with pytest.raises(RecipeError, match="needs token ids"):
        run("http://127.0.0.1:9/v1", ["arithmetic"], tmp_path / "c", plan, setup, quiet=True)
