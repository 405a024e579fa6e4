from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from llmrl.recipe import parse
from llmrl.run_folder.manifest import data_hash, manifest
from llmrl.types import Problem


def problem(number: int, answer: str = "1") -> Problem:
    return Problem(id=f"p{number}", messages=[{"role": "user", "content": "?"}], answer=answer)


def test_the_hash_sees_ids_messages_answers_and_order() -> None:
    some = [problem(0), problem(1)]
    assert data_hash(some) == data_hash([problem(0), problem(1)])
    changed = [[problem(1), problem(0)], [problem(0)], [problem(0), problem(1, answer="2")], [problem(0), problem(2)]]
    changed.append([problem(0), replace(problem(1), info={"tests": "assert 1"})])
    assert len({data_hash(problems) for problems in [some, *changed]}) == 6


def test_a_manifest_says_what_a_run_was(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("not part of a model")
    recipe = parse(
        {
            "model": {"policy": str(tmp_path)},
            "data": {"name": "arithmetic"},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo"},
            "train": {"seed": 7},
        }
    )
    made = manifest(recipe, {"problems": 1, "sha256": data_hash([problem(0)])}, processes=2, stage=3)
    assert (made["seed"], made["processes"], made["zero_stage"]) == (7, 2, 3)
    assert made["model"]["files"] == {"config.json": hashlib.sha256(b"{}").hexdigest()}
    assert made["data"] == {"problems": 1, "sha256": data_hash([problem(0)])}
    assert made["packages"]["torch"]
    assert made["cpu"]["cores"] >= 1
    assert json.loads(json.dumps(made)) == made, "plain values"
