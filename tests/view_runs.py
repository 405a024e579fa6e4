"""Folders of runs for tests of the viewer, written by the code that runs write them with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from llmrl.run_folder.records import REPLAYS
from llmrl.run_folder.writer import Logs
from llmrl.samples import Sample
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

HOSTILE = (
    "<script>window.stolen = 1</script>",
    "<img src=x onerror='window.stolen = 2'>",
    "</script><script>window.stolen = 3</script>",
    "javascript:window.stolen=4",
    '"><svg onload="window.stolen = 5">',
    "\u202e\x1b[31mred\x00",
)
"""Texts that would do something where a page took them for markup, or a terminal for a command."""
GROUP = 4  # episodes


def episode(
    step: int, number: int, text: str = "", ids: Sequence[int] = (), turns: int = 1, **facts: Any
) -> tuple[Trajectory, Sample]:
    """An episode, and the sample that was learned from it: right where its number is even."""
    ids = list(ids) or [5 + (number + i) % 90 for i in range(3 + number % 5)]
    right = number % 2 == 0
    problem = Problem(id=f"sums/{number // GROUP}", messages=[{"role": "user", "content": f"{number}+1="}], answer="7")
    made = [
        Turn(
            prompt_ids=[1] * (1 + t * (len(ids) + 2)),
            completion=Completion(
                token_ids=ids, logprobs=[-0.5 - i for i in range(len(ids))], finish="stop", version=step
            ),
            text=text or f"answer {number} of step {step}",
            reply=[{"role": "user", "content": "go on"}] if t + 1 < turns else [],
        )
        for t in range(turns)
    ]
    score = Score(float(right), "correct" if right else "wrong", {"format": 0.5}, reason=f"read {number}", answer="7")
    group, place = f"{step}/sums/{number // GROUP}", number % GROUP
    played = Trajectory(problem=problem, turns=made, status="done", score=score, group=group, episode=place, **facts)
    return played, _sample(played, ids, turns)


def _sample(played: Trajectory, ids: Sequence[int], turns: int) -> Sample:
    """The turns one behind the other, with numbers that differ from token to token."""
    turn_ids = [entry for t in range(turns) for entry in (-1, *(t for _ in ids))]
    count = len(turn_ids)
    numbers = np.linspace(-1, 1, count, dtype=np.float32)
    columns = {
        "token_ids": [entry for _ in range(turns) for entry in (1, *ids)],
        "turn_ids": turn_ids,
        "advantages": numbers,
        "sampled_logprobs": np.full(count, -1.0),
        "old_logprobs": -1.0 + numbers / 100,
        "old_entropy": np.abs(numbers),
    }
    return Sample(group=played.group, episode=played.episode, reward=0.0, columns=columns)


def write_step(folder: Path, step: int, count: int = 8, texts: Sequence[str] = (), **facts: Any) -> None:
    """Add a step of so many episodes to a run; those with a text of their own come first."""
    made = [episode(step, n, texts[n] if n < len(texts) else "", **facts) for n in range(count)]
    groups = [[played for played, _ in made[first : first + GROUP]] for first in range(0, count, GROUP)]
    logs = Logs(folder, writes=True, share=1.0)
    logs.rollouts(step, groups, [sample for _, sample in made])
    logs.metrics(step, {"reward": step / 10, "entropy": 1.0 / (step + 1), "loss": float("nan")})


def write_run(folder: Path, steps: int = 3, count: int = 8, status: str = "finished", **facts: Any) -> Path:
    """A run's folder: recipe, manifest, metrics, episodes."""
    for step in range(steps):
        write_step(folder, step, count, **facts)
    recipe = {"model": {"policy": "nowhere/model"}, "train": {"max_steps": steps, "seed": len(folder.name)}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "manifest.json").write_text(json.dumps({"status": status}))
    return folder


def write_evaluation(folder: Path, right: Sequence[bool], benchmark: str = "sums") -> None:
    """An evaluation: a problem for each entry, right or wrong."""
    folder.mkdir(parents=True)
    records = [
        {
            "problem": f"sums/{number}",
            "sample": 0,
            "prompt": [{"role": "user", "content": f"{number}+1="}],
            "completion": HOSTILE[number % 2] if number < 2 else f"it is {number + 1}",
            "tokens": 5,
            "finish": "stop",
            "verdict": "correct" if is_right else "wrong",
            "value": float(is_right),
            "reason": "",
            "final": str(number),
            "answer": str(number + 1),
        }
        for number, is_right in enumerate(right)
    ]
    (folder / f"{benchmark}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    estimate = {"value": sum(right) / len(right), "low": 0.0, "high": 1.0}
    result = {"problems": len(right), "samples": 1, "unjudged": 0, "metrics": {"avg@1": estimate}}
    (folder / "results.json").write_text(json.dumps({benchmark: result}))


def write_replay(folder: Path, step: int, texts: Sequence[str]) -> dict[str, Any]:
    """Write a step that was taken again under two alternatives, as `llmrl replay --view` does."""
    labels = ("as recorded", "rloo", texts[0])
    credit = {labels[0]: [0.0, 0.5, 0.5], labels[1]: [0.0, 0.75, 0.25], labels[2]: [0.0, 1.0, 0.75]}
    score = {"value": 1.0, "verdict": "correct", "reason": texts[4], "answer": "7"}
    pairs = [
        {"problem": "sums/0", "episode": place, "before": score, "now": {**score, "verdict": verdict}}
        for place, verdict in enumerate(("wrong", "correct"))
    ]
    found = {
        "step": step,
        "same": True,
        "notes": [texts[1]],
        "algorithms": [
            {"label": label, "gradient": {"norm": 2.0, "cosine": cosine}, "tokens": {"gain": 1}}
            for label, cosine in zip(labels, (1.0, 0.5, 0.25), strict=True)
        ],
        "verdicts": {texts[1]: pairs},
        "episodes": [
            {
                "group": f"{step}/sums/0",
                "episode": 0,
                "reward": 1.0,
                "token_ids": [1, 5, 6],
                "texts": ["prompt", *texts[2:4]],
                "turn_ids": [-1, 0, 0],
                "credit": credit,
            }
        ],
    }
    (folder / REPLAYS).mkdir(exist_ok=True)
    (folder / REPLAYS / f"step-{step:06d}.json").write_text(json.dumps(found))
    return found
