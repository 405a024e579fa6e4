"""Trace the files that a verdict, a recipe's key and a token pass: `python benchmarks/trips.py [--tree FOLDER]`.

Trains two steps of GRPO on a CPU, with a random model of 0.1M parameters and the engine `hf`, under Python's profiler.
A value is marked so that its printed form is unmistakable; a file is on the value's way when one of its functions takes
or returns something that prints the mark. The three ways:

- a verdict to the log: from the verifier's return, in a worker process, to the line of rollouts.jsonl; the mark is the
  score's reason;
- a key to its effect: from the recipe's text to the first call of `clipped_surrogate` with it; the mark is
  `algorithm.epsilon_high`;
- a token to its gradient: from the return of `generate` to the end of the first loss; the mark is the token ids of the
  first completion. Inside the loss each file entered counts, for there the token is a number among others.

`--tree` may name another version of the project, so that two can be compared. Takes about half a minute a tree.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

REASON, KEY = "the-marked-reason", "0.28713"
SHIPPED = ("llmrl/", "rewards/", "data/", "eval/")
RECIPE = f"""
model: {{policy: model}}
data: {{name: arithmetic}}
reward: {{name: 'marked_verifier:Marked'}}
algorithm: {{name: grpo, epsilon_high: {KEY}}}
engine: {{name: hf}}
rollout: {{num_generations: 4, prompts_per_step: 1, max_prompt_length: 64, max_completion_length: 12}}
train: {{max_steps: 2, learning_rate: 1e-3, output_dir: runs, report_to: none, save_steps: 0}}
"""
VERIFIER = f'''
import json, os, sys, time
from dataclasses import dataclass
from llmrl.types import Problem, Score

@dataclass(frozen=True)
class Marked:
    """Values differ, so that advantages do; writes down through which files the score goes back."""

    def __call__(self, problem: Problem, text: str) -> Score:
        frame, files = sys._getframe(1), []
        while frame:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        with open("worker.json", "w") as file:
            json.dump(files, file)
        return Score(sum(map(ord, text)) % 97 / 97, "wrong", reason="{REASON}")
'''
WAYS = ("a verdict to the log", "a key to its effect", "a token to its gradient")


class Trace:
    """A profiler that notes which files of a tree meet the marks, in the order of the first meeting."""

    def __init__(self, tree: Path) -> None:
        self.tree = f"{tree}/"
        self.files: dict[str, list[str]] = {way: [] for way in WAYS}
        self.ids = ""  # of the first completion, once it is known
        self.inside_loss = self.lost = self.clipped = False
        self.unprinted: set[str] = set()

    def start(self) -> None:
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        path = self.relative(frame.f_code.co_filename)
        if path is None or event not in {"call", "return"}:
            return
        name = frame.f_code.co_name
        shown = self.printed([*frame.f_locals.values()] if event == "call" else [value])
        if REASON in shown:
            self.note(WAYS[0], path)
        if KEY in shown and not self.clipped:
            self.note(WAYS[1], path)
            self.clipped = name == "clipped_surrogate"
        if name == "generate" and event == "return" and not self.ids and hasattr(value, "token_ids"):
            self.ids = self.printed([list(value.token_ids)]).strip("[]")
        if event == "call" and name == "loss" and "/algorithms/" in path:
            self.inside_loss = True
        if self.ids and not self.lost and (self.inside_loss or self.ids in shown):
            self.note(WAYS[2], path)
        if event == "return" and name == "loss" and "/algorithms/" in path:
            self.inside_loss, self.lost = False, True

    def relative(self, file: str) -> str | None:
        """The path within the tree of a file that is shipped."""
        path = file.removeprefix(self.tree) if file.startswith(self.tree) else ""
        path = re.sub(r"^llmrl/(?=(rewards|data|eval)/)", "", path)
        return path if path.startswith(SHIPPED) else None

    def printed(self, values: list[Any]) -> str:
        """The printed form of values, without white space; of those that cannot be printed the types are kept."""
        texts = []
        for value in values:
            try:
                texts.append(repr(value))
            except Exception as error:  # an object in the midst of its construction, and what else a foreign repr does
                self.unprinted.add(f"{type(value).__name__} ({type(error).__name__})")
        return re.sub(r"\s+", "", "".join(texts))

    def note(self, way: str, path: str) -> None:
        if path not in self.files[way]:
            self.files[way].append(path)


def trace(tree: Path, out: Path) -> None:
    """Train in this process, in the current folder, and write the ways to `out`."""
    from llmrl import tiny

    tiny.make("model", hidden=64, layers=2)
    Path("run.yaml").write_text(RECIPE, encoding="utf-8")
    Path("marked_verifier.py").write_text(VERIFIER, encoding="utf-8")
    sys.argv = ["llmrl", "train", "run.yaml", "--quiet"]
    tracer = Trace(tree)
    tracer.start()
    try:
        runpy.run_module("llmrl", run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.setprofile(None)
    for file in json.loads(Path("worker.json").read_text(encoding="utf-8")):
        if path := tracer.relative(file):
            tracer.note(WAYS[0], path)
    out.write_text(json.dumps([tracer.files, sorted(tracer.unprinted)]), encoding="utf-8")


def ways(tree: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The files of each way in a tree, traced in a process and a folder of its own, and types that hid marks."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ways.json"
        environment = os.environ | {"PYTHONPATH": f"{tree}:{folder}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--tree", str(tree), "--trace", str(out)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise SystemExit(f"{tree}: the traced run failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        files, unprinted = json.loads(out.read_text(encoding="utf-8"))
        return files, unprinted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1], help="the project's folder")
    parser.add_argument("--json", type=Path, help="write the files of each way here")
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    tree = options.tree.resolve()
    if options.trace:
        trace(tree, options.trace)
        return
    traced, unprinted = ways(tree)
    for way, files in traced.items():
        print(f"{way}: {len(files)} files", *files, sep="\n    ")
    if unprinted:
        print("could not be printed at some time, so a mark in them was not seen:", *unprinted, sep="\n    ")
    if options.json:
        options.json.write_text(json.dumps(traced, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
