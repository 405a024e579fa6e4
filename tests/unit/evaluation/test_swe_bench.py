"""SWE-bench by Agentless-Mini: stages, grades, predictions in the official format, and going on after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import EngineError, LlmrlError, RecipeError, SandboxError
from llmrl.evaluation import swe_bench
from llmrl.evaluation.agentless import AgentlessOptions, StageLog
from llmrl.evaluation.evaluate import Plan, evaluate
from llmrl.evaluation.generators import Played, playing, refused
from llmrl.evaluation.swe_bench import HarnessOptions, SweOptions, agentless, graded, options_of, write_predictions
from llmrl.plugins import build
from llmrl.protocols import Benchmark
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Completion, Problem, Sampling, Trajectory, Turn
from tests import swe_calculator

EDIT = "```python\n### pkg/calc.py\n<<<<<<< SEARCH\n    return a - b\n=======\n    return {}\n>>>>>>> REPLACE\n```"
TEST = "```python\nfrom pkg.calc import add\n\n\ndef test_issue():\n    assert add(2, 3) == 5\n```"
USELESS = "```python\ndef test_nothing():\n    pass\n```"


@dataclass
class Scripted:
    """Answers by stage and number; stops after `most` answers, as a server that dies does."""

    texts: Mapping[str, list[str]]
    most: int = 1000
    model: str = "scripted"
    asked: list[str] = field(default_factory=list)
    seeds: list[int | None] = field(default_factory=list)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"model": self.model}

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        if len(self.asked) == self.most:
            raise EngineError("gone")
        self.asked.append(problem.id.partition("/")[2])
        self.seeds.append(sampling.seed)
        stage, _, number = problem.id.split("/")[-2:][0], "", problem.id.split("/")[-1]
        text = self.texts[stage][int(number)]
        completion = Completion(token_ids=[], logprobs=[], finish="stop", version=0)
        turn = Turn(prompt_ids=[], completion=completion, text=text)
        return Played(Trajectory(problem=problem, turns=[turn], status="done"), 10)


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    row = swe_calculator.made(tmp_path / "clones")
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


def run(
    folder: Path, inner: Scripted, options: SweOptions, out: str = "out", plan: Plan | None = None
) -> dict[str, Any]:
    """Evaluate on the fixture's one instance, as `llmrl eval` does."""
    found: Benchmark = build("benchmark", "swe_bench_lite")
    benchmark = graded(replace(found, data={"name": "swe_bench", "path": str(folder / "rows.jsonl")}), options)
    reward = build("reward", benchmark.reward, "here")
    with (
        GradingPool(1, reward.item_timeout_s) as pool,
        agentless("swe_bench_lite", inner, options, folder / out) as generator,
    ):
        group_reward = as_group_reward(reward, pool)
        return asyncio.run(
            evaluate("swe_bench_lite", generator, group_reward, folder / out, plan or Plan(), benchmark=benchmark)
        )


def settings(folder: Path, grade: Any = "none", **options: Any) -> SweOptions:
    made = AgentlessOptions(repos=str(folder / "clones"), timeout_s=60.0, **options)
    return SweOptions(grade=grade, agentless=made)


class Refuses(Scripted):
    """A server whose filter ends every answer."""

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        return refused(problem, "finish_reason content_filter of the server")


def test_an_issue_of_which_no_question_was_answered_is_unjudged(clones: Path) -> None:
    result = run(clones, Refuses({}), settings(clones, "local"))
    assert (result["unjudged"], result["metrics"]) == (1, {})


FOUND = ["```\npkg/calc.py\npkg/other.py\n```"]
WIDE = {"localise": FOUND, "repair": [EDIT.format(text) for text in ("0", "a + b", "a * b", "(a + b)  # mended")]}


def test_without_tests_nothing_is_called_resolved(clones: Path) -> None:
    result = run(clones, Scripted(WIDE), settings(clones, samples=4))
    assert result["metrics"] == {}
    assert (result["unjudged"], result["unjudged_problems"]) == (0, 0)
    parts = result["parts"]
    assert (parts["localised"], parts["applied"], parts["gold_files"], parts["predicted"]) == (1.0, 1.0, 1.0, 1.0)
    assert parts["similarity"] == 1.0, "the majority is the repair that two samples agree on"
    assert parts["found_files"] == 2.0
    assert "resolve" not in json.dumps(result).lower()


def test_by_tests_of_this_machine(clones: Path) -> None:
    right = run(clones, Scripted(WIDE), settings(clones, "local", samples=4))
    assert right["metrics"]["avg@1"]["value"] == 1.0
    assert right["parts"]["fail_to_pass"] == 1.0
    wrong = run(clones, Scripted({**WIDE, "repair": [EDIT.format("a * b")]}), settings(clones, "local"), "wrong")
    assert wrong["metrics"]["avg@1"]["value"] == 0.0
    none = run(clones, Scripted({**WIDE, "repair": ["I do not know."]}), settings(clones, "local"), "none")
    assert none["metrics"]["avg@1"]["value"] == 0.0
    assert none["parts"]["predicted"] == 0.0


def test_tests_overrule_the_majority(clones: Path) -> None:
    """Two of three repairs are wrong alike: they break a test, or fail one that was written from the issue."""
    broken = EDIT.format("a").replace("    return a - b", "    return -a")
    texts = {"localise": FOUND, "repair": [broken, broken, EDIT.format("a + b")], "reproduce": [USELESS, TEST]}
    assert run(clones, Scripted(texts), settings(clones, samples=3))["parts"]["similarity"] < 1.0
    by_regression = run(clones, Scripted(texts), settings(clones, samples=3, regression=True), "regression")
    wrong = {**texts, "repair": [EDIT.format("7"), EDIT.format("7"), EDIT.format("a + b")]}
    by_reproduction = run(clones, Scripted(wrong), settings(clones, samples=3, reproductions=2), "reproduction")
    assert by_regression["parts"]["similarity"] == 1.0
    assert by_reproduction["parts"]["similarity"] == 1.0


def test_predictions_are_the_official_format(clones: Path) -> None:
    run(clones, Scripted(WIDE), settings(clones, samples=4))
    path = write_predictions("swe_bench_lite", clones / "out", "a/model")
    (row,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(row) == ["instance_id", "model_name_or_path", "model_patch"]
    assert row["instance_id"] == "owner__calc-1"
    assert row["model_patch"].startswith(
        "diff --git a/pkg/calc.py b/pkg/calc.py\n--- a/pkg/calc.py\n+++ b/pkg/calc.py\n@@ "
    )


def test_a_patch_of_a_file_that_is_no_utf8_does_not_stop_the_harness() -> None:
    row = swe_bench.prediction({"sample": 0, "problem": "a", "completion": "-\udce9\n+é\ud800\n"}, "m")
    assert row is not None
    assert row["model_patch"].encode() == "-?\n+é?\n".encode()


def test_predictions_are_read_by_the_official_package(clones: Path) -> None:
    python = os.environ.get("LLMRL_SWEBENCH", sys.executable)
    ask = "import sys, json; from swebench.harness.utils import get_predictions_from_file as read"
    if subprocess.run([python, "-c", ask], capture_output=True, check=False).returncode:
        pytest.skip("no package swebench; LLMRL_SWEBENCH names an interpreter that has it")
    run(clones, Scripted(WIDE), settings(clones, samples=4))
    path = write_predictions("swe_bench_lite", clones / "out", "m")
    words = [python, "-c", f"{ask}; print(json.dumps(read(*sys.argv[1:])))", str(path), "here", "test"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [json.loads(path.read_text())]
    usage = subprocess.run([python, "-m", "swebench.harness.run_evaluation", "--help"], capture_output=True, text=True)
    command = swe_bench.harness_command(HarnessOptions(), "dataset", path, "run")
    assert [word for word in command if word.startswith("--") and word not in usage.stdout] == []


def test_a_killed_evaluation_goes_on_where_it_was(clones: Path) -> None:
    options = settings(clones, "local", samples=4, reproductions=1, regression=True)
    texts = {**WIDE, "reproduce": [TEST]}
    whole = Scripted(texts)
    expected = run(clones, whole, options, "whole")
    assert sorted(whole.asked) == ["localise/0", *(f"repair/{n}" for n in range(4)), "reproduce/0"]
    first = Scripted(texts, most=3)
    with pytest.raises(EngineError):
        run(clones, first, options)
    log = clones / "out" / "swe_bench_lite.stages.jsonl"
    done = log.read_text().splitlines()
    assert 1 <= len(done) <= 3
    log.write_text("".join(line + "\n" for line in done) + '{"key": "half a li')  # killed while it wrote
    second = Scripted(texts)
    assert run(clones, second, options) == expected
    assert len(second.asked) == 6 - len(done)
    third = Scripted(texts)
    assert run(clones, third, options) == expected
    assert third.asked == []
    with pytest.raises(LlmrlError, match="begun with other settings"):
        run(clones, Scripted(texts), settings(clones, "local", samples=3))


def test_no_stage_stands_for_another_model(clones: Path) -> None:
    """The advice for other settings is to remove the records; the stages stay."""
    run(clones, Scripted(WIDE), settings(clones, "local", regression=True, samples=2))
    (clones / "out" / "swe_bench_lite.jsonl").unlink()
    other = Scripted({**WIDE, "repair": [EDIT.format("a * b")]}, model="other")
    result = run(clones, other, settings(clones, "local", regression=True))
    assert other.asked == ["localise/0", "repair/0"]
    assert result["metrics"]["avg@1"]["value"] == 0.0


def test_each_sample_of_a_problem_is_asked(clones: Path) -> None:
    inner = Scripted(WIDE)
    run(clones, inner, settings(clones), plan=Plan(samples=3, temperature=0.8))
    assert sorted(inner.asked) == ["localise/0"] * 3 + ["repair/0"] * 3
    assert len(set(inner.seeds)) == 6


def test_other_test_options_run_tests_again(clones: Path) -> None:
    run(clones, Scripted(WIDE), settings(clones, regression=True))
    (clones / "out" / "swe_bench_lite.jsonl").unlink()
    log = clones / "out" / "swe_bench_lite.stages.jsonl"
    ran = [line for line in log.read_text().splitlines() if "/base/" in line]
    again = replace(settings(clones, regression=True).agentless, timeout_s=50.0)
    run(clones, Scripted(WIDE), SweOptions(agentless=again))
    assert len([line for line in log.read_text().splitlines() if "/base/" in line]) == 2 * len(ran) == 2


def test_a_stage_that_fails_is_not_written_down(tmp_path: Path) -> None:
    async def fails() -> None:
        raise OSError("no")

    async def works() -> int:
        return 1

    with StageLog(tmp_path / "log.jsonl") as log:
        with pytest.raises(OSError, match="no"):
            asyncio.run(log.once("a", fails))
        assert asyncio.run(log.once("a", works)) == 1
    with StageLog(tmp_path / "log.jsonl") as log:
        assert log.values == {"a": 1}


def test_the_harness_is_asked_for_before_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxError, match=r"docker is not installed; podman is not installed.*--grade none"):
        swe_bench.require_harness(HarnessOptions())
    monkeypatch.setattr(swe_bench, "engine", lambda: "docker")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="swebench is not installed"):
        swe_bench.require_harness(HarnessOptions())


HARNESS = """import json, sys
words = sys.argv
assert words[words.index("--dataset_name") + 1].endswith("rows.jsonl"), words
rows = [json.loads(line) for line in open(words[words.index("--predictions_path") + 1])]
report = {"total_instances": 1, "submitted_instances": len(rows), "resolved_ids": ["owner__calc-1"]}
json.dump(report, open("scripted." + words[words.index("--run_id") + 1] + ".json", "w"))
"""


def test_the_harness_runs_in_a_process_of_its_own(clones: Path) -> None:
    run(clones, Scripted(WIDE), settings(clones, samples=4))
    package = clones / "swebench" / "harness"
    package.mkdir(parents=True)
    (package / "run_evaluation.py").write_text(HARNESS)
    python = clones / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={clones} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    benchmark = replace(
        build("benchmark", "swe_bench_lite"), data={"name": "swe_bench", "path": str(clones / "rows.jsonl")}
    )
    predictions = write_predictions("swe_bench_lite", clones / "out", "m")
    options = HarnessOptions(python=str(python))
    result = swe_bench.run_harness("swe_bench_lite", benchmark, clones / "out", predictions, options)
    assert result["harness"]["resolved_ids"] == ["owner__calc-1"]
    predictions.write_text(predictions.read_text().replace("a + b", "a * b"))
    swe_bench.run_harness("swe_bench_lite", benchmark, clones / "out", predictions, options)
    runs = list((clones / "out" / "harness").glob("scripted.*.json"))
    assert len(runs) == 2, "the harness skips what a run of the same name has graded"
    (package / "run_evaluation.py").write_text("raise SystemExit(3)")
    with pytest.raises(SandboxError, match="exit status 3"):
        swe_bench.run_harness("swe_bench_lite", benchmark, clones / "out", predictions, options)


def test_options_of_the_command_line() -> None:
    made = options_of("local", {"repos": "clones", "samples": 4, "harness": {"workers": 2}})
    assert (made.grade, made.agentless.repos, made.agentless.samples, made.harness.workers) == ("local", "clones", 4, 2)
    with pytest.raises(RecipeError, match="sample"):
        options_of("local", {"sample": 4})
    with pytest.raises(RecipeError, match="grade"):
        options_of("all", {})
    for value in ("clones", ["clones"]):
        with pytest.raises(RecipeError, match="expected a mapping"):
            options_of("local", value)  # type: ignore[arg-type]


def test_a_plain_generator_is_refused() -> None:
    with pytest.raises(RecipeError, match="in stages"):
        playing(Scripted({}), build("benchmark", "swe_bench_lite"), "swe_bench_lite")
