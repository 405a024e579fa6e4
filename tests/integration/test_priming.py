"""Rows of `llmrl data prime` are rows that supervised training reads."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from llmrl import tiny
from llmrl.cli.main import app
from llmrl.train.sft import sft


def test_primed_rows_are_learnt_from(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    told = CliRunner().invoke(app, ["data", "prime", "backtracking_only", "--out", str(path), "--count", "4"])
    assert told.exit_code == 0, told.output
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    losses: list[float] = []

    def see(step: int, loss: float, model: object) -> bool:
        losses.append(loss)
        return False

    base = tiny.make(tmp_path / "base", hidden=64, layers=2)
    sft(base, rows, tmp_path / "out", max_steps=6, batch_size=2, learning_rate=3e-3, progress=see)
    assert losses[-1] < losses[0] - 0.3
