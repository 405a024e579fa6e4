"""A dataset in two parts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from llmrl.data.split import Split
from llmrl.errors import DataError, RecipeError
from llmrl.plugins import build


def written(folder: Path, ids: list[str]) -> dict[str, str]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": id, "prompt": f"{id}?", "answer": "1"}) + "\n" for id in ids))
    return {"name": "jsonl", "path": str(file)}


def ids(of: dict[str, str], part: str, **options: float) -> list[str]:
    return [problem.id for problem in build("data", {"name": "split", "of": of, "part": part, **options}).problems()]


@pytest.mark.parametrize(("test_size", "held_out"), [(0.1, 2), (0.11, 3), (7, 7), (0.001, 1)])
def test_two_parts_are_the_whole_and_share_nothing(tmp_path: Path, test_size: float, held_out: int) -> None:
    given = [f"p{number}" for number in range(20)]
    of = written(tmp_path, given)
    train, test = ids(of, "train", test_size=test_size), ids(of, "test", test_size=test_size)
    assert len(test) == held_out
    assert sorted(train + test) == sorted(given)
    assert train == [id for id in given if id not in test], "in the order of the data"


def test_the_order_of_the_file_does_not_matter_and_the_seed_does(tmp_path: Path) -> None:
    given = [f"p{number}" for number in range(50)]
    held_out = set(ids(written(tmp_path, given), "test", test_size=10))
    random.Random(0).shuffle(given)
    of = written(tmp_path, given)
    assert set(ids(of, "test", test_size=10)) == held_out
    assert set(ids(of, "test", test_size=10, seed=1)) != held_out


def test_a_part_without_problems_is_refused(tmp_path: Path) -> None:
    of = written(tmp_path, ["a", "b"])
    with pytest.raises(DataError, match="test_size 2 of 2 problems leaves none to train on"):
        ids(of, "train", test_size=2)
    with pytest.raises(DataError, match="leaves none"):
        ids(of, "test", test_size=0.9)
    with pytest.raises(RecipeError, match=r"test_size 1\.5: expected a share below 1, or a whole number"):
        build("data", {"name": "split", "of": of, "test_size": 1.5})
    assert Split(of=of).test_size == 0.1
