"""Software engineering on two CPU cores, by a tiny policy; tests a minute; disk: `python -m benchmarks.swe`.

`--parts` chooses of `learning` (generated functions, first by similarity, then by tests), `repository` (a git
repository with bugs: rows curated from its history, tests found by running them, a policy trained on them and evaluated
by tests before and after) and `grading` (runs of tests a minute, disk). `--seeds`, `--steps` choose; `--json FILE`
keeps the figures. docs/swe.md quotes some.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmrl import tiny
from llmrl.aio import wait
from llmrl.data.bug_fixes import BugFixes, is_held_out
from llmrl.datagen.swe.curate import Curation
from llmrl.datagen.swe.curate import write as curate
from llmrl.datagen.swe_tests import write as write_tests
from llmrl.evaluation.evaluate import Plan, evaluate
from llmrl.evaluation.run import EvalSetup, local_player
from llmrl.plugins import build
from llmrl.protocols import Benchmark
from llmrl.recipe import parse
from llmrl.rewards.swe_tests import SweTests
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.swe.bugs import bugs
from llmrl.swe.diffs import parse_patch
from llmrl.swe.instance import Instance
from llmrl.swe.testing import TestBed
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.train.sft import sft
from llmrl.types import Sampling
from tests import swe_repository

SMALL = {"modules": 1, "arguments": 2}  # 112 tasks
PRIMING = {"max_steps": 500, "learning_rate": 4e-3, "batch_size": 16, "warmup_steps": 20}
TESTS = {"name": "swe_tests", "form": "strict", "timeout_s": 10.0, "malformed": -1.0}
HELD_OUT = Benchmark(
    data={"name": "bug_fixes", "split": "heldout", **SMALL},
    reward=TESTS,
    sampling=Sampling(temperature=0.6, max_tokens=200),
    samples=8,
)
"""Held-out tasks, sampled as in training, so that 25 tasks tell more than 25 answers."""


@dataclass(frozen=True)
class Task:
    """A line to repair: what the policy reads, the file, the line, and the one in its place."""

    prompt: str
    path: str
    old: str
    new: str

    def answer(self, line: str) -> str:
        """A repair in SWE-RL's form, by some line."""
        edit = f"### {self.path}\n<<<<<<< SEARCH\n{self.old}\n=======\n{line}\n>>>>>>> REPLACE"
        return f"<think>\n{self.path}\n</think>\n<solution>\n```python\n{edit}\n```\n</solution>"


def generated() -> list[Task]:
    """The training share of the generated functions."""
    made = [bug for bug in bugs(SMALL["modules"], SMALL["arguments"]) if not is_held_out(bug)]
    prompts = {problem.info["bug"]: problem.messages[0]["content"] for problem in BugFixes(**SMALL).problems()}
    return [Task(prompts[bug.id], bug.path, bug.line(bug.wrong), bug.line(bug.name)) for bug in made]


def primed(tasks: Sequence[Task], seed: int, folder: Path) -> Path:
    """Fine-tune a random model on repairs, half of them with another task's line: it knows the form, and guesses."""
    draw, lines = random.Random(seed), sorted({task.new for task in tasks})
    rows = []
    for task in tasks:
        others = [line for line in lines if line not in (task.old, task.new)]
        for _ in range(8):
            answer = task.answer(task.new if draw.random() < 0.5 else draw.choice(others))
            asked = [{"role": "user", "content": task.prompt}]
            rows.append({"prompt": asked, "completion": [{"role": "assistant", "content": answer}]})
    base = tiny.make(folder / "random", hidden=64, layers=2, max_positions=1024, seed=seed)
    return sft(base, rows, folder / "primed", seed=seed, **PRIMING)  # type: ignore[arg-type]


def learned(model: Path, settings: Mapping[str, Any], folder: Path, name: str, steps: int, seed: int) -> Path:
    """Train a model by GRPO; return the folder of what it became."""
    recipe = parse({
        "model": {"policy": str(model)},
        "algorithm": {"name": "grpo", "minibatches": 2},
        "engine": {"name": "hf"},
        "rollout": {
            "num_generations": 8,
            "temperature": 0.6,
            "prompts_per_step": 16,
            "max_prompt_length": 400,
            "max_completion_length": 200,
            "reward_timeout_s": 30.0,
        },
        "train": {
            "max_steps": steps,
            "learning_rate": 5e-4,
            "output_dir": str(folder),
            "run_name": name,
            "report_to": "none",
            "save_steps": 0,
            "seed": seed,
        },
        **settings,
    })  # fmt: skip
    with Run(recipe) as run:
        train(run)
        return run.folder / "final"


def resolved(model: Path, benchmark: Benchmark, out: Path, seed: int) -> float:
    """Share of sampled answers that make the tests pass, 0 to 1."""
    with GradingPool(2, 30.0) as pool, local_player(str(model), EvalSetup(engine="hf"), seed, 600) as player:
        reward = as_group_reward(build("reward", benchmark.reward, "benchmark"), pool)
        result = wait(evaluate("swe", player, reward, out, Plan(seed=seed), benchmark=benchmark))
    return float(result["metrics"]["avg@8"]["value"])


def learning(model: Path, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Learn by similarity, then by tests; the share of held-out tasks that is repaired, before, between and after."""
    data = {"name": "bug_fixes", **SMALL}
    began = time.monotonic()
    shares, here = [resolved(model, HELD_OUT, folder / "before", seed)], model
    for name, reward in (("similarity", {"name": "swe_similarity"}), ("tests", TESTS)):
        here = learned(here, {"data": data, "reward": reward}, folder, name, steps, seed)
        shares.append(resolved(here, HELD_OUT, folder / f"after_{name}", seed))
    return {"seed": seed, "steps": steps, "resolved": shares, "seconds": time.monotonic() - began}


def repository(model: Path, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Curate two repositories, train on their older repairs, evaluate on the newer ones by their tests.

    The one of the tests has too few repairs to hold any out; of the generated one the last ten are.
    """
    began = time.monotonic()
    (folder / "fixture").mkdir()
    clone, issues = swe_repository.build(folder / "fixture")
    history(folder / "generated", seed)
    figures: dict[str, Any] = {"fixture": curated(clone, issues), "generated": curated(folder / "generated", None)}
    places = {"fixture": clone, "generated": folder / "generated"}
    rows = {name: read_rows(Path(name_of(place))) for name, place in places.items()}
    for name, held_out in (("fixture", 0), ("generated", 10)):
        old, new = (folder / f"{name}-{age}.jsonl" for age in ("old", "new"))
        write_rows(old, rows[name][: len(rows[name]) - held_out])
        write_rows(new, rows[name][-held_out:])
        reward = {**TESTS, "repos": str(clone.parent if name == "fixture" else folder)}
        settings = {"data": data_of(old), "reward": reward}
        benchmark = replace(HELD_OUT, data=data_of(new), reward=reward)
        figures[name]["gold"] = graded(benchmark, lambda row: str(row["patch"]))
        figures[name]["empty"] = graded(benchmark, lambda _: "")
        before = resolved(model, benchmark, folder / f"{name}-before", seed)
        trained = learned(model, settings, folder, name, steps, seed)
        figures[name]["resolved"] = [before, resolved(trained, benchmark, folder / f"{name}-after", seed)]
    return {"seed": seed, "steps": steps, **figures, "seconds": time.monotonic() - began}


def curated(clone: Path, issues: Path | None) -> dict[str, Any]:
    """Make rows of a repository's history beside it, with the tests that judge them; counts."""
    rows = clone.with_name(f"{clone.name}-curated.jsonl")
    options = Curation(context_files=0, bugs_only=issues is not None)
    statistics = curate(clone, rows, options, issues=issues, repo=clone.name)
    bed = TestBed(repos=str(clone.parent), timeout_s=30.0)
    counts = write_tests(rows, Path(name_of(clone)), bed, runs=1)
    return {"rows": statistics["rows"], "left_out": sum(statistics["left_out"].values()), "with_tests": counts["kept"]}


def name_of(clone: Path) -> str:
    """The file of a repository's rows with tests."""
    return f"{clone}-tested.jsonl"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows, each with the short prompt that a tiny policy reads."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{**row, "prompt": task_of(row).prompt} for row in rows]


def task_of(row: Mapping[str, Any]) -> Task:
    """The line that a repair of one line changes."""
    (patch,) = parse_patch(row["patch"])
    lines = [line for hunk in patch.hunks for line in hunk.lines]
    old, new = (next(line[1:].rstrip("\n") for line in lines if line[0] == sign) for sign in "-+")
    issue = (row["issue_body"] or row["issue_title"]).splitlines()[-1]
    return Task(f"{issue}\n### {patch.path}\n{row['files'][patch.path]}", patch.path, old, new)


def data_of(path: Path) -> dict[str, Any]:
    """Rows of a file as a dataset that asks by the short prompt."""
    return {"name": "jsonl", "path": str(path), "prompt_column": "prompt", "answer_column": "patch"}


def history(clone: Path, seed: int) -> None:
    """Make a repository in which each function is written with a bug, and repaired by the next commit, with a test."""
    clone.mkdir()
    git(clone, "init", "-q")
    small = list(bugs(SMALL["modules"], SMALL["arguments"]))
    draw = random.Random(seed)
    old, new = ([bug for bug in small if is_held_out(bug) == held] for held in (False, True))
    for bug in [*draw.sample(old, 20), *draw.sample(new, 10)]:
        (clone / bug.path).write_text(bug.text(bug.wrong), encoding="utf-8")
        commit(clone, f"Write {bug.name}")
        (clone / bug.path).write_text(bug.text(bug.name), encoding="utf-8")
        (clone / f"test_{bug.module}.py").write_text(bug.tests(), encoding="utf-8")
        commit(clone, f"Mend {bug.name}\n\n{bug.issue()}")


def graded(benchmark: Benchmark, answer: Callable[[Mapping[str, Any]], str]) -> float:
    """Share of problems that an answer made of their columns resolves."""
    reward = build("reward", {**benchmark.reward, "form": "diff"}, "reward")
    problems = list(build("data", benchmark.data, "data").problems())
    columns = [{**problem.info, "patch": problem.answer} for problem in problems]
    scores = [reward(problem, answer(row)) for problem, row in zip(problems, columns, strict=True)]
    return sum(score.verdict == "correct" for score in scores) / len(scores)


def grading(model: Path, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Runs of tests a minute by two workers, no two alike; bytes on disk of a folder, and what is left in the end."""
    reward = SweTests(timeout_s=60.0)
    chosen = list(build("data", {"name": "bug_fixes", "count": 60}, "data").problems())
    figures: dict[str, Any] = {}
    there = folders()
    for runner in ("unittest", "pytest"):
        problems = [replace(problem, info={**problem.info, **of_runner(problem.info, runner)}) for problem in chosen]
        reward(problems[0], problems[0].answer)
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            verdicts = list(pool.map(lambda problem: reward(problem, problem.answer).verdict, problems[1:]))
        minutes = (time.monotonic() - began) / 60
        figures[runner] = {"per_minute": len(verdicts) / minutes, "correct": verdicts.count("correct") / len(verdicts)}
    place = TestBed().workspace(Instance.of(chosen[0]))
    size = sum(path.stat().st_blocks * 512 for path in Path(place.folder).rglob("*"))
    place.close()
    return {**figures, "bytes_of_a_folder": size, "folders_left": len(folders() - there)}


def folders() -> set[str]:
    """Folders of programs on disk."""
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith(("llmrl-work-", "llmrl-box-"))}


def of_runner(info: Mapping[str, Any], runner: str) -> dict[str, Any]:
    """Columns of tests for another runner: pytest runs those of unittest, under names of its own."""
    if runner == "unittest":
        return {}
    names = {
        column: ["{}.py::{}::{}".format(*test.split(".")) for test in info[column]]
        for column in ("FAIL_TO_PASS", "PASS_TO_PASS")
    }
    return {"test_runner": "pytest", **names}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def commit(clone: Path, message: str) -> None:
    """Commit all there is."""
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", message)


def git(clone: Path, *words: str) -> str:
    """Output of Git."""
    who = {f"GIT_{role}_{name}": "a@b" for role in ("AUTHOR", "COMMITTER") for name in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *words], cwd=clone, check=True, capture_output=True, text=True, env={**os.environ, **who}
    )
    return done.stdout.rstrip("\n")


PARTS = {"learning": learning, "repository": repository, "grading": grading}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=["learning", "repository", "grading"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, list[Any]] = {part: [] for part in options.parts}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as name:
            model = primed([*generated(), *5 * fixture(Path(name))], seed, Path(name))  # nine beside 87
            for part in options.parts if not seed else [part for part in options.parts if part != "grading"]:
                folder = Path(name) / part
                folder.mkdir()
                results[part].append(PARTS[part](model, seed, options.steps, folder))
                print(part, json.dumps(results[part][-1]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def fixture(folder: Path) -> list[Task]:
    """The repairs of the tests' repository."""
    (folder / "tasks").mkdir()
    clone, issues = swe_repository.build(folder / "tasks")
    curated(clone, issues)
    return [task_of(row) for row in read_rows(Path(name_of(clone)))]


if __name__ == "__main__":
    main()
