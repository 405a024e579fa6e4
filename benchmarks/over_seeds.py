"""Command line and table cells of benchmarks that measure one thing over several seeds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
Row = TypeVar("Row")


def cell(values: Sequence[float], form: str = ".3f") -> str:
    """The mean over seeds with its 95 % interval; a single seed is its own."""
    from llmrl.ops.aggregate import interval, mean

    low, high = interval([[value] for value in values], mean) if len(values) > 1 else (values[0], values[0])
    return f"{fmean(values):{form}} ({low:{form}} to {high:{form}})"


def keep(rows: Sequence[Any], out: Path) -> None:
    """Write the figures of all seeds so far, a list."""
    out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def run(
    about: str | None,
    name: str,
    measure: Callable[[Path, int], Row],
    table: Callable[[list[Row]], str],
    *,
    seeds: int = 5,
    keep: Callable[[list[Row], Path], None] = keep,
) -> None:
    """Measure every seed, keep the figures after each, and print the table.

    Args:
        about: the help.
        name: of the folder in `runs/` and of the file in `docs/results/`, where nothing else is asked for.
        measure: figures of a seed, from a folder that may hold runs already.
        table: of the figures of all seeds.
        seeds: how many, where nothing else is asked for.
        keep: writes the figures so far to a file.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--work", type=Path, default=Path("runs") / name)
    parser.add_argument("--out", type=Path, default=Path("docs/results") / f"{name}.json")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for seed in range(options.seeds):
        rows.append(measure(work, seed))
        print(json.dumps(rows[-1]), flush=True)
        keep(rows, options.out)
    print(table(rows))
