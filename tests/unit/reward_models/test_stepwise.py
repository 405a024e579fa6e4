from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import DataError
from llmrl.reward_models.stepwise import IGNORED, first_error, monte_carlo, prm800k, stepwise, trajectory


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_stepwise_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"prompt": "q", "completions": ["a", "b", "c"], "labels": [True, 0.25, -100]},
        {"prompt": "q", "steps": ["a"], "labels": [0]},
        {"prompt": "q", "completions": ["a", " "], "labels": [1, 1]},
        {"prompt": "q", "completions": ["a"], "labels": [-100]},
    )
    found = stepwise(path)
    assert [(row.answer.steps, row.labels) for row in found.kept] == [
        (["a", "b", "c"], [1.0, 0.25, -100.0]),
        (["a"], [0.0]),
    ]
    assert found.rejected == {"empty step": 1, "no label": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "completions": ["a", "b"], "labels": [1]}, "expected 2 of them"),
        ({"prompt": "q", "completions": ["a"], "labels": [2]}, "column 'labels' holds"),
        ({"prompt": "q", "completions": "a", "labels": [1]}, "column 'completions' holds 'a'"),
    ],
)
def test_rows_that_are_not_stepwise(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        stepwise(written(tmp_path, row))


def step(*ratings: int | None, chosen: int | None = None, human: Any = None) -> dict[str, Any]:
    completions = [{"text": f"t{i}", "rating": rating} for i, rating in enumerate(ratings)]
    return {"completions": completions, "chosen_completion": chosen, "human_completion": human}


def solution(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    row = {"question": {"problem": "q"}, "label": {"steps": list(steps), "finish_reason": "solution"}}
    return {**row, **changes}


def test_nothing_follows_the_first_wrong_step() -> None:
    made = trajectory([step(1, chosen=0), step(-1, chosen=0), step(1, chosen=0)], "positive")
    assert made.labels == [1.0, 0.0]
    neutral = trajectory([step(0, chosen=0), step(1, chosen=0)], "negative")
    assert neutral.labels == [0.0, 1.0]  # a neutral step is not the first wrong one


def test_what_a_person_wrote_is_right_and_completions_beside_it_are_labelled() -> None:
    made = trajectory([step(-1, 1, None, human={"text": "mine"}), step(0, chosen=0)], "ignore")
    assert made.steps == ["mine", "t0"]
    assert made.labels == [1.0, IGNORED]
    assert made.alternatives == [([], "t0", 0.0), ([], "t1", 1.0)]


def test_a_step_without_any_text() -> None:
    with pytest.raises(DataError, match="here: step 0 has neither"):
        trajectory([step(None)], "positive", "here")


def test_rows_of_prm800k(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        solution(step(1, -1, chosen=0), step(1, chosen=0)),
        solution(step(1, chosen=0), is_quality_control_question=True),
        solution(step(1, chosen=0), is_initial_screening_question=True),
        solution(step(1, chosen=0), label={"steps": [], "finish_reason": "give_up"}),
    )
    found = prm800k(path)
    assert [(row.answer.steps, row.labels) for row in found.kept] == [(["t0", "t0"], [1.0, 1.0]), (["t1"], [0.0])]
    assert found.rejected == {"quality control or screening": 2, "finished by give_up": 1}
    with pytest.raises(DataError, match="expected a row of PRM800K"):
        prm800k(written(tmp_path, {"prompt": "q"}))


def test_the_first_wrong_step_counted_from_0_or_1(tmp_path: Path) -> None:
    row = {"question": "q", "steps": ["a", "b", "c"]}
    path = written(
        tmp_path,
        {**row, "first_error_step_0based": 1},
        {**row, "first_error_step_1based": 1},
        {**row, "first_error_step_0based": None},
    )
    labels = [row.labels for row in first_error(path).kept]
    assert labels == [[1.0, 0.0, IGNORED], [0.0, IGNORED, IGNORED], [1.0, 1.0, 1.0]]
    for wrong in (0, 4, True, "1"):
        with pytest.raises(DataError, match="expected one of 3 steps"):
            first_error(written(tmp_path, {**row, "first_error_step_1based": wrong}))


def test_the_real_files(shared_data: Path) -> None:
    mistakes = first_error(shared_data / "step_labels" / "bigbench_mistake_dev.jsonl")
    assert len(mistakes.kept) + sum(mistakes.rejected.values()) == 1080
    assert mistakes.kept[0].labels == [1.0, 1.0, 1.0, 0.0, IGNORED]
    grade = first_error(shared_data / "step_labels" / "mr_gsm8k_wrong_dev.jsonl")
    assert len(grade.kept) + sum(grade.rejected.values()) == 292
    assert all(0.0 in row.labels for row in grade.kept)


def test_monte_carlo_labels_above_a_threshold() -> None:
    assert monte_carlo([1, 4, 8], 8, True, threshold=0.25) == [0.0, 1.0, 1.0]
    assert monte_carlo([1, 4, 8], 8, False, soft=True, stop_at_first_error=True) == [0.125, 0.5, 0.0]
    assert monte_carlo([0, 4, 8], 8, True, soft=True, stop_at_first_error=True) == [0.0, IGNORED, IGNORED]
    for counts in ([], [9], [-1]):
        with pytest.raises(ValueError, match="expected at least one"):
            monte_carlo(counts, 8, True)
