"""The Pareto front of a search: as JSON with the command of each member, as a table, and as a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from llmrl.ops.pareto import front, hypervolume
from llmrl.tuning.space import Space
from llmrl.tuning.trial import Trial


def write(out: Path, space: Space, trials: Sequence[Trial], command: Callable[[Sequence[str]], str]) -> None:
    """Write `front.json`, `front.csv` and `front.png` into the folder."""
    ended = [trial for trial in trials if trial.values is not None]
    points = [space.maximised(trial.means) for trial in ended]
    reference = space.maximised(space.reference)
    best = [ended[i] for i in front(points)]
    told = {
        "objectives": dict(space.objectives),
        "reference": list(space.reference),
        "trials": len(trials),
        "failed": len(trials) - len(ended),
        "hypervolume": [hypervolume(points[: i + 1], reference) for i in range(len(points))],
        "front": [
            {"trial": each.number, "values": each.means, "by_seed": each.values, "command": command(each.overrides)}
            for each in best
        ],
    }
    (out / "front.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    with (out / "front.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", *space.objectives, "in_front", "settings"])
        for trial in ended:
            writer.writerow([trial.number, *trial.means, int(trial in best), " ".join(trial.overrides)])
    _picture(space, ended, best).savefig(out / "front.png", dpi=110)


def _picture(space: Space, trials: Sequence[Trial], best: Sequence[Trial]) -> Any:
    """A panel for each two objectives: every trial a point, those of the front joined; a single one by trial."""
    from matplotlib.figure import Figure

    names = list(space.objectives)
    pairs: list[tuple[int | None, int]] = [*combinations(range(len(names)), 2)] or [(None, 0)]
    figure = Figure(figsize=(4.2 * len(pairs), 3.4), layout="constrained")
    panels = figure.subplots(1, len(pairs), squeeze=False).flatten()
    for panel, (x, y) in zip(panels, pairs, strict=True):
        for group, style in ((trials, "o"), (sorted(best, key=lambda each: _at(each, x)), "o-")):
            panel.plot([_at(each, x) for each in group], [_at(each, y) for each in group], style, markersize=4)
        for each in best:
            panel.annotate(str(each.number), (_at(each, x), _at(each, y)), fontsize=7)
        panel.set_xlabel("trial" if x is None else f"{names[x]} ({space.objectives[names[x]]})", fontsize=8)
        panel.set_ylabel(f"{names[y]} ({space.objectives[names[y]]})", fontsize=8)
        panel.grid(alpha=0.3)
    return figure


def _at(trial: Trial, objective: int | None) -> float:
    return float(trial.number) if objective is None else trial.means[objective]
