"""Fingerprints of stored columns: whatever changes the numbers changes them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmrl.recipe import parse
from llmrl.tiny import make_tokenizer
from llmrl.train import stored_columns
from llmrl.train.stored_columns import fingerprints


def of(rollout: dict[str, Any] | None = None, **model: Any) -> str:
    tree = {
        "model": {"policy": "owner/name", **model},
        "source": {"name": "offline", "path": "rows.jsonl"},
        "algorithm": {"name": "preference"},
        "rollout": rollout or {},
    }
    return fingerprints(parse(tree))["reference"]


def test_the_temperature_the_precision_the_revision_and_a_reference_that_moves_change_it() -> None:
    others = [
        of({"temperature": 0.5}),
        of(dtype="bfloat16"),
        of(model_revision="abc"),
        of(sync_ref_model=True, ref_model_sync_steps=10),
        of(policy="owner/other"),
    ]
    assert of() == of({"temperature": 1.0})
    assert len({of(), *others}) == 6


def test_rows_come_in_the_order_of_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"{i}+1=", "chosen": str(i + 1), "rejected": "0"} for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(stored_columns, "Learners", lambda *_, **__: SimpleNamespace(annotate=lambda given, _: given))
    monkeypatch.setattr(stored_columns, "accelerator", lambda _: None)
    monkeypatch.setattr(stored_columns, "load_tokenizer", lambda *_: make_tokenizer())
    source = {"name": "offline", "path": str(tmp_path / "rows.jsonl"), "shuffle": "index"}
    recipe = parse({"model": {"policy": "owner/name"}, "source": source, "algorithm": {"name": "preference"}})
    _, _, read = stored_columns.annotated_rows(recipe, tmp_path, {"ref_logprobs"})
    assert [number for number, _ in read] == list(range(20))
