"""Diagnose this machine: a line for each check, with what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmrl.checks.doctor import machine, probes, versions
from llmrl.checks.doctor.finding import Finding

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def diagnose(quick: bool = False, limit_s: float = 180.0) -> list[Finding]:
    """Run every check of this machine.

    Args:
        quick: leave out starting vLLM and DeepSpeed, which takes half a minute.
        limit_s: seconds that either start may take.
    """
    results = machine.findings()
    on_gpu = any(f.name == "GPU" and "GiB" in f.detail for f in results)
    results = versions.findings(on_gpu) + results
    return results if quick else results + probes.findings(limit_s)


def show(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print a table, then a line that sums it up."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    table = Table("check", "state", title="llmrl doctor")
    for column in ("found", "next"):
        table.add_column(column, overflow="fold")  # nothing of a path or a command is cut off
    for f in findings:
        table.add_row(f.name, Text(f.state, style=_COLOURS[f.state]), Text(f.detail), Text(f.next_step))
    console.print(table)
    counts = {state: sum(f.state == state for f in findings) for state in _COLOURS}
    console.print(", ".join(f"{number} {state}" for state, number in counts.items()))


def exit_code(findings: Sequence[Finding]) -> int:
    """Exit code: 1 where anything fails, else 0; a missing optional part only warns."""
    return int(any(f.state == "fail" for f in findings))
