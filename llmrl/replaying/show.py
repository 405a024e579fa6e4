"""Tables of a repeated step, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmrl.replaying.comparison import Comparison, compare
from llmrl.replaying.outcome import place
from llmrl.replaying.rewards import Rescored, changed
from llmrl.replaying.run import ReplayedStep

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

EPISODES = 20
"""Episodes with another verdict that are listed; the JSON file has all."""


def show(found: ReplayedStep, tokens: int, console: Console | None = None) -> None:
    """Print a repeated step.

    Args:
        tokens: of each alternative that are listed, those whose credit changes most.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    for line in [_began(found), _metrics(found), _weights(found), *(f"note: {note}" for note in found.notes)]:
        console.print(Text(line), soft_wrap=True)
    if found.comparisons:
        console.print(_algorithms(found))
    for each in found.comparisons:
        if each.outcome.fresh:
            console.print(
                Text(f"{each.outcome.label}: {', '.join(each.outcome.fresh)} at first weights: the run has none"),
                soft_wrap=True,
            )
        if each.credit and tokens:
            console.print(_tokens(found, each, tokens))
    for label, pairs in found.rescored.items():
        _verdicts(label, pairs, console)


def _began(found: ReplayedStep) -> str:
    record = found.record
    place = "the model that the run began with" if record.begin is None else f"checkpoints/{record.begin.name}"
    before = len(record.steps) - 1
    between = f", {before} step{'s' if before > 1 else ''} before it taken again" if before else ""
    return f"step {record.step} of {record.folder}: from {place}{between}; {len(found.samples)} samples"


def _metrics(found: ReplayedStep) -> str:
    if not found.metrics:
        return f"metrics: all {found.compared} of the update are as recorded"
    told = ", ".join(f"{name} {now:.9g} (recorded {was:.9g})" for name, (was, now) in list(found.metrics.items())[:4])
    return f"metrics: {len(found.metrics)} of {found.compared} differ: {told}"


def _weights(found: ReplayedStep) -> str:
    after = found.record.after
    if found.weights is None or after is None:
        return f"weights: no checkpoint after {found.record.step + 1} steps to compare with"
    different = {name: largest for name, largest in found.weights.items() if largest}
    if not different:
        return f"weights: {len(found.weights)} tensors equal those of checkpoints/{after.name}, bit for bit"
    worst = max(different, key=lambda name: different[name])
    return (
        f"weights: {len(different)} of {len(found.weights)} tensors differ from checkpoints/{after.name}, by at most "
        f"{different[worst]:.3g} ({worst})"
    )


def _algorithms(found: ReplayedStep) -> Table:
    """A column for each algorithm, the record's first."""
    from rich.markup import escape
    from rich.table import Table

    all_of_them = [compare(found.outcome, found.outcome), *found.comparisons]
    numbers = [each.summary() for each in all_of_them]
    lines = {
        "loss": [_number(n["loss"]) for n in numbers],
        "gradient, norm": [_number(n["gradient"]["norm"]) for n in numbers],
        "gradient, cosine": [_number(n["gradient"]["cosine"]) for n in numbers],
        "update, norm": [_number(n["update"]["norm"]) for n in numbers],
        "update, cosine": [_number(n["update"]["cosine"]) for n in numbers],
        "clip share": [_number(n["clip_share"]) for n in numbers],
        "tokens with credit": [str(n["tokens"]["credited"]) for n in numbers],
        "tokens that gain": [str(n["tokens"]["gain"]) for n in numbers],
        "tokens that lose": [str(n["tokens"]["lose"]) for n in numbers],
        "pushed the other way": [str(n["tokens"]["flip"]) for n in numbers],
    }
    table = Table(title="the same episodes")
    table.add_column("", no_wrap=True)
    for each in all_of_them:
        table.add_column(escape(each.outcome.label), justify="right", overflow="fold")
    for name, cells in lines.items():
        table.add_row(name, *cells)
    return table


def _tokens(found: ReplayedStep, each: Comparison, most: int) -> Table:
    """The tokens whose credit changes most."""
    from rich.markup import escape
    from rich.table import Table

    rows = {place(sample): sample for sample in found.samples}
    table = Table(title=escape(f"{each.outcome.label}: tokens whose credit changes most, in % of the step's"))
    table.add_column("episode")
    for column in ("token", "recorded", "now", "change"):
        table.add_column(column, justify="right", no_wrap=True)
    for credit in each.credit[:most]:
        sample = rows[credit.where]
        table.add_row(
            escape(f"{sample.group} #{sample.episode}"),
            escape(f"{credit.token} {found.text([int(sample.token_ids[credit.token])])!r}"),
            *(f"{100 * number:+.3g}" for number in (credit.before, credit.now, credit.change)),
        )
    return table


def _verdicts(label: str, pairs: Sequence[Rescored], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    others = changed(pairs)
    verdicts = sum(pair.before.verdict != pair.now.verdict for pair in pairs)
    line = f"{label}: {verdicts} of {len(pairs)} verdicts and {len(others)} scores are others"
    console.print(Text(line + (f"; the first {EPISODES}:" if len(others) > EPISODES else "")), soft_wrap=True)
    if not others:
        return
    table = Table()
    for column in ("episode", "recorded", "now", "reason"):
        table.add_column(column)
    for pair in others[:EPISODES]:
        table.add_row(
            escape(f"{pair.episode.group} #{pair.episode.episode}"),
            f"{pair.before.verdict or '-'} {_number(pair.before.value)}",
            f"{pair.now.verdict or '-'} {_number(pair.now.value)}",
            escape(pair.now.reason),
        )
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
