"""Grade patches of SWE-bench: not at all, by tests on this machine, or by the official harness."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llmrl.errors import RecipeError, SandboxError
from llmrl.evaluation.agentless import AgentlessGenerator, AgentlessOptions, StageLog
from llmrl.evaluation.generators import Generator
from llmrl.evaluation.records import read_json, write_json
from llmrl.protocols import Benchmark
from llmrl.recipe.ranges import Count
from llmrl.run_folder.jsonl import unwritable
from llmrl.run_folder.records import file_name
from llmrl.sandbox.container import engine
from llmrl.swe.testing import TestBed

Grade = Literal["none", "local", "harness"]
DATASETS = {"lite": "SWE-bench/SWE-bench_Lite", "verified": "SWE-bench/SWE-bench_Verified"}


@dataclass(frozen=True, kw_only=True)
class HarnessOptions:
    """Options of the package `swebench`, which runs in a process of its own: it draws in much."""

    python: str = sys.executable  # of an environment that has the package
    workers: Count = 4
    timeout_s: Count = 1800  # of an instance


@dataclass(frozen=True, kw_only=True)
class SweOptions:
    """Options of an evaluation on SWE-bench."""

    grade: Grade = "none"
    agentless: AgentlessOptions = field(default_factory=AgentlessOptions)
    harness: HarnessOptions = field(default_factory=HarnessOptions)


def graded(benchmark: Benchmark, options: SweOptions) -> Benchmark:
    """The benchmark with the reward of a grade. Only tests make a verdict: without them nothing is called resolved."""
    reward: dict[str, Any] = {**benchmark.reward, "repos": options.agentless.repos}
    if options.grade != "local":
        return replace(benchmark, reward=reward)
    bed = {name: getattr(options.agentless, name) for name in TestBed.__dataclass_fields__}
    return replace(benchmark, reward=reward | {"tests": bed}, judged=True)


@contextmanager
def agentless(name: str, inner: Generator, options: SweOptions, out: Path) -> Iterator[AgentlessGenerator]:
    """Give a generator whose finished stages are kept in `<name>.stages.jsonl`.

    Raises:
        LlmrlError: the file cannot be written, or another evaluation is writing it.
    """
    with StageLog(out / f"{file_name(name)}.stages.jsonl") as log:
        yield AgentlessGenerator(inner, options.agentless, log)


def write_predictions(name: str, out: Path, model: str) -> Path:
    """Write the patches of a benchmark's records in SWE-bench's format: `<name>.predictions.jsonl`.

    Raises:
        LlmrlError: the file cannot be written.
    """
    path = out / f"{file_name(name)}.predictions.jsonl"
    lines = (out / f"{file_name(name)}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [prediction(json.loads(line), model) for line in lines]
    try:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None), encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def prediction(record: Mapping[str, Any], model: str) -> dict[str, str] | None:
    """The official row of a record; None for all samples but the first.

    The harness writes a patch as UTF-8. Bytes of a file that are none are replaced: that patch fails, alone.
    """
    if record["sample"]:
        return None
    patch = str(record["completion"]).encode("utf-8", "replace").decode("utf-8")
    return {"instance_id": record["problem"], "model_name_or_path": model, "model_patch": patch}


def require_harness(options: HarnessOptions) -> None:
    """Check that the official harness can run, before anything is asked of a model.

    Raises:
        SandboxError: no container engine answers.
        RecipeError: the package `swebench` is not installed.
    """
    try:
        engine()
    except SandboxError as error:
        raise SandboxError(
            f"--grade harness runs containers: {error}. Or choose --grade local, or --grade none"
        ) from None
    ours = options.python == sys.executable
    if ours and importlib.util.find_spec("swebench") is None:
        raise RecipeError(
            "--grade harness: the package swebench is not installed; install it into an environment of its own, and "
            "name that one's interpreter: --swe '{harness: {python: /path/to/bin/python}}'"
        )


def harness_command(options: HarnessOptions, dataset: str, predictions: Path, run: str) -> list[str]:
    """The command line of the official harness."""
    words = [options.python, "-m", "swebench.harness.run_evaluation", "--dataset_name", dataset]
    words += ["--predictions_path", str(predictions.resolve()), "--run_id", run]
    return [*words, "--max_workers", str(options.workers), "--timeout", str(options.timeout_s)]


def run_harness(
    name: str, benchmark: Benchmark, out: Path, predictions: Path, options: HarnessOptions
) -> dict[str, Any]:
    """Run the official harness, and put its report into `results.json` under `harness`.

    Raises:
        SandboxError: it fails, or leaves no report.
    """
    data = benchmark.data
    dataset = str(Path(data["path"]).resolve()) if data.get("path") else DATASETS[data.get("subset", "lite")]
    # the harness grades no instance twice in a run, so other predictions are another run
    run = f"llmrl-{file_name(name)}-{hashlib.blake2b(predictions.read_bytes(), digest_size=4).hexdigest()}"
    folder = out / "harness"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(harness_command(options, dataset, predictions, run), cwd=folder, check=False)
    reports = sorted(folder.glob(f"*.{run}.json"), key=lambda path: path.stat().st_mtime)
    if done.returncode or not reports:
        raise SandboxError(
            f"the harness ended with exit status {done.returncode} and {len(reports)} reports in {folder}; read what "
            "it printed. The predictions are kept"
        )
    report = read_json(reports[-1])
    counts = {key: report.get(key) for key in ("total_instances", "submitted_instances", "resolved_instances")}
    results = read_json(out / "results.json")
    results[file_name(name)]["harness"] = {**counts, "resolved_ids": report.get("resolved_ids", [])}
    write_json(out / "results.json", results)
    return dict(results[file_name(name)])


def options_of(grade: str, values: Mapping[str, Any] | None) -> SweOptions:
    """Make the options of a command line: `--grade`, and the mapping of `--swe`.

    Raises:
        RecipeError: an option is unknown, or of another type.
    """
    from llmrl.plugins import construct

    if values is not None and not isinstance(values, Mapping):
        raise RecipeError(f"--swe {values!r}: expected a mapping, such as '{{repos: clones, samples: 10}}'")
    given = dict(values or {})
    harness = given.pop("harness", {})
    made: SweOptions = construct(SweOptions, {"grade": grade, "agentless": given, "harness": harness}, "--swe")
    return made
