"""A plan as tables, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrl.planning.memory import PARTS, total
from llmrl.planning.run import GIB, RunPlan
from llmrl.recipe import Recipe

MIB = 2**20

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def show(found: RunPlan, recipe: Recipe, console: Console | None = None) -> None:
    """Print a plan."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    for line in (_model(found, recipe), *_data(found, recipe), found.batch.told(), _time(found)):
        console.print(Text(line), soft_wrap=True)
    console.print(_memory(found))
    for warning in found.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def _model(found: RunPlan, recipe: Recipe) -> str:
    facts = found.facts
    trained = "" if facts.trained == facts.parameters else f", {_millions(facts.trained)} of them trained"
    return f"model: {recipe.model.policy}, {_millions(facts.parameters)} parameters{trained}"


def _data(found: RunPlan, recipe: Recipe) -> list[str]:
    lengths, rollout = found.lengths, recipe.rollout
    if lengths is None:
        return []
    lines = [
        f"prompts: {lengths.prompt_mean:.0f} tokens, {lengths.prompt_max} at most; {lengths.too_long} of "
        f"{lengths.measured} above rollout.max_prompt_length {rollout.max_prompt_length}"
    ]
    if lengths.references:
        kind = "worked answers" if lengths.worked else "results alone"
        lines.append(
            f"references ({kind}): {lengths.reference_mean:.0f} tokens, {lengths.reference_max} at most; "
            f"{lengths.over_share:.1%} above rollout.max_completion_length {rollout.max_completion_length}"
        )
    return lines


def _time(found: RunPlan) -> str:
    time = found.time
    return (
        f"a step: at most {time.tokens:,} tokens, about {time.seconds:.3g} s (generating {time.generate:.3g}, training "
        f"{time.train:.3g}; {time.origin}), {duration(found.batch.steps * time.seconds)} for all; graders and "
        "evaluations come on top"
    )


def _memory(found: RunPlan) -> Table:
    from rich.table import Table

    shape = found.shape
    unit, size = ("GiB", GIB) if found.stages or found.peak >= GIB else ("MiB", MIB)  # a GPU is sold in GiB
    digits = 2 if unit == "GiB" else 0
    caption = f"{unit}, with micro-batches of {shape.rows} x {shape.length} tokens"
    table = Table(title="memory", caption=caption)
    table.add_column("")
    columns = [(f"ZeRO {stage}" if stage else "data parallel", parts) for stage, parts in found.stages.items()]
    if not columns:
        columns = [("this process", found.here)]
    for name, _ in columns:
        table.add_column(name, justify="right")
    for part in PARTS:
        if any(parts[part] for _, parts in columns):
            table.add_row(part, *(f"{parts[part] / size:.{digits}f}" for _, parts in columns))
    if found.stages:
        sums = [total(parts) for _, parts in columns]
        fits = ["fits" if each <= found.gpu_memory * GIB else "too large" for each in sums]
        table.add_row("all", *(f"{each / GIB:.2f}" for each in sums))
        table.add_row(f"{found.gpus} x {found.gpu_memory:g} GiB", *fits)
    else:
        table.add_row("peak", f"{found.peak / size:.{digits}f}")
    return table


def duration(seconds: float) -> str:
    """A time in the unit in which people would say it."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def _millions(number: int) -> str:
    return f"{number / 1e9:.2f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"
