"""What a run leaves behind for people: metrics, episodes, curves; one line or one live view while it works."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from llmrl.errors import CheckpointError
from llmrl.types import Sample, Score, Trajectory

CURVES = ("reward", "accuracy", "completions/mean_length", "entropy", "grad_norm", "sync/probe_logp_gap")
NOBODY: Mapping[tuple[str, int], Score] = MappingProxyType({})
"""Scores of an audit that there is none of."""


class Logs:
    """The files of a run folder; only the main process writes."""

    def __init__(self, folder: Path, writes: bool, share: float) -> None:
        self.folder = folder
        self._writes = writes
        self._share = share
        if writes:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CheckpointError(
                    f"{folder}: cannot be made: {error.strerror}; choose another train.output_dir"
                ) from error

    def write(self, name: str, content: Any) -> None:
        """A JSON file, whole or not at all."""
        if self._writes:
            _replace(self.folder / name, json.dumps(content, indent=2, default=str) + "\n")

    def text(self, name: str, content: str) -> None:
        """A text file, whole or not at all."""
        if self._writes:
            _replace(self.folder / name, content)

    def forget_from(self, step: int) -> None:
        """Drop the lines of `step` and later: a resumed run writes them again."""
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            path = self.folder / name
            if self._writes and path.exists():
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                _replace(
                    path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step)
                )

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of metrics.jsonl."""
        self._append("metrics.jsonl", [{"step": step, **metrics}])

    def rollouts(
        self,
        step: int,
        groups: Sequence[Sequence[Trajectory]],
        samples: Sequence[Sample],
        audited: Mapping[tuple[str, int], Score] = NOBODY,
    ) -> None:
        """A share of the step's episodes: what was said, how it was judged, what credit it got, what an audit says."""
        advantages = {(row.group, row.episode): max(row.advantages or [0.0], key=abs) for row in samples}
        chosen = (one for group in groups for one in group if self._wanted(one))
        self._append("rollouts.jsonl", (_episode(step, one, advantages, audited) for one in chosen))

    def rows(self, name: str, samples: Sequence[Sample]) -> Path:
        """Rows that could not be learned from, to look at."""
        from dataclasses import asdict

        path = self.folder / name
        if self._writes:
            _replace(path, "".join(json.dumps(asdict(row), default=list) + "\n" for row in samples))
        return path

    def curves(self) -> None:
        """curves.png, from metrics.jsonl."""
        path = self.folder / "metrics.jsonl"
        if self._writes and path.exists():
            draw(
                [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()], self.folder / "curves.png"
            )

    def _wanted(self, one: Trajectory) -> bool:
        return self._share >= 1.0 or Random(f"{one.group}/{one.episode}").random() < self._share

    def _append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        if not self._writes:
            return
        path = self.folder / name
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot be written: {error.strerror}; make room, then start again with --resume"
            ) from error


def draw(lines: Sequence[Mapping[str, float]], path: Path) -> None:
    """One panel for each of the usual curves that the lines hold."""
    from matplotlib.figure import Figure

    names = [name for name in CURVES if any(name in line for line in lines)]
    names += sorted({key for line in lines for key in line if key.startswith("eval/") and key.endswith("avg@1")})
    if not names:
        return
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(4.2 * across, 2.8 * down), layout="constrained")
    for panel, name in zip(figure.subplots(down, across, squeeze=False).flat, names, strict=False):
        points = [(line["step"], line[name]) for line in lines if name in line]
        panel.plot(*zip(*points, strict=True))
        panel.set(title=name, xlabel="step")
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _episode(
    step: int,
    one: Trajectory,
    advantages: Mapping[tuple[str, int], float],
    audited: Mapping[tuple[str, int], Score] = NOBODY,
) -> dict[str, Any]:
    score, other = one.score, audited.get((one.group, one.episode))
    line = {
        "step": step,
        "problem": one.problem.id,
        "group": one.group,
        "episode": one.episode,
        "status": one.status,
        "prompt": [dict(message) for message in one.problem.messages],
        "turns": [
            {"text": turn.text, "reply": [dict(m) for m in turn.reply], "reward": turn.reward} for turn in one.turns
        ],
        "tokens": sum(len(turn.completion.token_ids) for turn in one.turns),
        "truncated": one.truncated,
        "version": one.turns[0].completion.version if one.turns else None,
        "reward": score.value if score else None,
        "verdict": score.verdict if score else None,
        "parts": dict(score.parts) if score else {},
        "reason": score.reason if score else one.reason,
        "advantage": advantages.get((one.group, one.episode), 0.0),
    }
    if other is not None:
        line["audit"] = {"value": other.value, "verdict": other.verdict, "reason": other.reason}
    return line


def _replace(path: Path, content: str) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written: {error.strerror}; choose another train.output_dir"
        ) from error
