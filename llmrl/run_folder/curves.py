"""Learning curves: of one run, and of several, with intervals and a table (`llmrl figures`).

Runs of one group are the same recipe with other seeds: the folder's name up to its last `-`, as in `grpo-0`, `grpo-1`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import DataError
from llmrl.ops.aggregate import interquartile_mean, interval, mean
from llmrl.run_folder import reader
from llmrl.run_folder.records import METRICS, StepRecord, file_name

COLUMNS = 4  # panels in a row of the picture
USUAL = ("reward", "accuracy", "completions/mean_length", "entropy", "grad_norm", "sync/probe_logp_gap")
"""Metrics that every run draws, beside its evaluations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A run's values of a metric."""

    group: str
    seed: str
    points: Sequence[tuple[int, float]]  # (steps taken, value), at least one, in order
    seconds: float | None = None  # of all its steps


def draw(sources: Sequence[Path], out: Path, metric: str, title: str = "") -> None:
    """Write `<out>.png`, `<out>.csv`, `<out>.json` and `<out>.md`: curves with 95 % bands, and first against last.

    Args:
        sources: folders of runs, or a JSON file that this function has written.
        out: a path without an ending.
        metric: a name of metrics.jsonl, such as `eval/arithmetic/avg@1`.
    Raises:
        DataError: a source holds no run, or a run has no such metric.
    """
    curves = [curve for source in sources for curve in read(source, metric)]
    out.parent.mkdir(parents=True, exist_ok=True)
    plain = [
        {"group": c.group, "seed": c.seed, "seconds": c.seconds, "points": [list(p) for p in c.points]} for c in curves
    ]
    lines = ",\n".join("  " + json.dumps(curve) for curve in plain)
    _file(out, "json").write_text(f'{{"metric": {json.dumps(metric)}, "runs": [\n{lines}\n]}}\n', encoding="utf-8")
    with _file(out, "csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["group", "seed", "step", metric])
        writer.writerows([c.group, c.seed, step, value] for c in curves for step, value in c.points)
    groups = by_group(curves)
    _file(out, "md").write_text(table(groups, metric), encoding="utf-8")
    _picture(groups, metric, title).savefig(_file(out, "png"), dpi=110)


def read(source: Path, metric: str) -> list[Curve]:
    """The curves of a run's folder, or of a file that `draw` wrote.

    Raises:
        DataError: neither, or nothing of the metric is in it.
    """
    if source.is_dir():
        return [_of_run(source, metric)]
    try:
        kept = json_text.parse(source.read_bytes(), str(source))
        if kept["metric"] != metric:
            raise DataError(f"{source}: holds {kept['metric']!r}, asked for {metric!r}; give --metric {kept['metric']}")
        return [
            Curve(group=r["group"], seed=r["seed"], seconds=r["seconds"], points=[(p[0], p[1]) for p in r["points"]])
            for r in kept["runs"]
        ]
    except OSError as error:
        raise DataError(
            f"{source}: cannot be read: {error.strerror}; expected a run's folder or a curves file"
        ) from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{source}: not a file of curves ({type(error).__name__}: {error})") from None


def draw_run(steps: Sequence[StepRecord], path: Path) -> None:
    """Draw one panel for each of the usual metrics that the steps have, and for each benchmark."""
    from matplotlib.figure import Figure

    named = {name for record in steps for name in record.metrics}
    names = [name for name in USUAL if name in named]
    names += sorted(name for name in named if name.startswith("eval/") and name.endswith("avg@1"))
    if not names:
        return
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(4.2 * across, 2.8 * down), layout="constrained")
    for panel, name in zip(figure.subplots(down, across, squeeze=False).flat, names, strict=False):
        points = [(record.step, record.metrics[name]) for record in steps if name in record.metrics]
        panel.plot(*zip(*points, strict=True))
        panel.set(title=name, xlabel="step")
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def by_group(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """In the order of their first appearance."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.group, []).append(curve)
    return groups


def table(groups: Mapping[str, Sequence[Curve]], metric: str) -> str:
    """Markdown: first and last value of each group, means with 95 % intervals over its runs."""
    lines = [
        f"| {metric} | runs | first | last | interquartile mean of last | gain | runs that gained | seconds a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, curves in groups.items():
        first = [[curve.points[0][1]] for curve in curves]
        last = [[curve.points[-1][1]] for curve in curves]
        gains = [[b[0] - a[0]] for a, b in zip(first, last, strict=True)]
        low, high = interval(last, interquartile_mean)
        taken = [curve.seconds for curve in curves if curve.seconds is not None]
        lines.append(
            f"| {name} | {len(curves)} | {_with_interval(first)} | {_with_interval(last)} | "
            f"{interquartile_mean(last):.3f} ({low:.3f} to {high:.3f}) | {_with_interval(gains, '+')} | "
            f"{sum(gain[0] > 0 for gain in gains)} of {len(gains)} | {f'{fmean(taken):.0f}' if taken else ''} |"
        )
    return "\n".join(lines) + "\n"


def _with_interval(scores: Sequence[Sequence[float]], sign: str = "") -> str:
    low, high = interval(scores, mean)
    return f"{mean(scores):{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _of_run(folder: Path, metric: str) -> Curve:
    steps = list(reader.steps(folder))
    points = [(record.step + 1, float(record.metrics[metric])) for record in steps if metric in record.metrics]
    points = [*_before(folder, metric), *points]
    if not points:
        known = sorted({name for record in steps for name in record.metrics if name.startswith("eval/")})
        raise DataError(f"{folder}: no {metric!r} in {METRICS}; evaluations there: {', '.join(known) or 'none'}")
    group, _, seed = folder.name.rpartition("-")
    taken = [record.metrics["step_time"] for record in steps if "step_time" in record.metrics]
    seconds = round(sum(taken), 1) if taken else None
    return Curve(group=group or folder.name, seed=seed if group else "", points=points, seconds=seconds)


def _before(folder: Path, metric: str) -> list[tuple[int, float]]:
    """The value before the first step, where the run evaluated it."""
    path, parts = folder / "eval" / "step-000000" / "results.json", metric.split("/")
    if not path.exists() or parts[0] != "eval" or len(parts) != 3:
        return []
    try:
        results = json_text.parse(path.read_bytes(), str(path))
        return [(0, float(results[file_name(parts[1])]["metrics"][parts[2]]["value"]))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no {metric!r} in it ({type(error).__name__}: {error}); remove the folder") from None


def _file(out: Path, ending: str) -> Path:
    return out.with_name(f"{out.name}.{ending}")


def _picture(groups: Mapping[str, Sequence[Curve]], metric: str, title: str) -> Any:
    """A panel for each group: its runs, their mean, and the 95 % interval of the mean."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for panel, (name, curves) in zip(panels, groups.items(), strict=False):
        for curve in curves:
            panel.plot(*zip(*curve.points, strict=True), color="tab:gray", alpha=0.4, linewidth=0.8)
        shared = sorted(set.intersection(*({step for step, _ in curve.points} for curve in curves)))
        at = [[[dict(curve.points)[step]] for curve in curves] for step in shared]
        bands = [interval(scores, mean) for scores in at]
        panel.plot(shared, [mean(scores) for scores in at], "o-", markersize=3)
        panel.fill_between(shared, [low for low, _ in bands], [high for _, high in bands], alpha=0.25)
        panel.set_title(f"{name} ({len(curves)} seeds)", fontsize=9)
        panel.grid(alpha=0.3)
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    figure.supxlabel("step")
    figure.supylabel(metric, fontsize=9)
    figure.suptitle(title)
    return figure
