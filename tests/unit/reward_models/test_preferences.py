from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import DataError
from llmrl.reward_models.preferences import balanced, outcomes, pairs
from llmrl.reward_models.rows import AnswerRow, LabelledRow


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_pairs_as_text_as_messages_and_without_a_prompt(tmp_path: Path) -> None:
    user, yes, no = ({"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "y"), ("a", "n")))
    path = written(
        tmp_path,
        {"prompt": "q", "chosen": "y", "rejected": "n", "margin": 2, "principles": ["p"]},
        {"prompt": [user], "chosen": [yes], "rejected": [no]},
        {"chosen": [user, yes], "rejected": [user, no]},
        {"chosen": "\n\nHuman: q\n\nAssistant: y", "rejected": "\n\nHuman: q\n\nAssistant: n"},
    )
    found = pairs(path)
    assert [(row.chosen.response, row.rejected.response) for row in found.kept] == [("y", "n")] * 4
    prompts = [row.chosen.prompt for row in found.kept]
    assert prompts == ["q", [user], [user], "\n\nHuman: q\n\nAssistant:"]
    assert found.kept[0].margin == 2.0
    assert found.kept[0].rejected.variables == {"principles": ["p"]}
    assert not found.rejected


def test_pairs_that_teach_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"prompt": "q", "chosen": " y  z", "rejected": "y z "},
        {"prompt": "q", "chosen": "y", "rejected": " "},
        {"prompt": "q", "chosen": "y", "rejected": "n", "margin": float("nan")},
        {"chosen": "\n\nHuman: a\n\nAssistant: y", "rejected": "\n\nHuman: b\n\nAssistant: n"},
        {"prompt": "q", "chosen": "y", "rejected": "n"},
    )
    found = pairs(path)
    assert len(found.kept) == 1
    assert found.rejected == {
        "chosen equals rejected": 1,
        "empty response": 1,
        "margin is not finite": 1,
        "no shared prompt": 1,
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "chosen": "y"}, "column 'rejected' holds nothing"),
        ({"prompt": 3, "chosen": "y", "rejected": "n"}, "column 'prompt' holds 3"),
        ({"prompt": "q", "chosen": "y", "rejected": "n", "margin": "x"}, "'margin' holds str"),
        ({"question": "q"}, "expected `chosen` and `rejected`"),
    ],
)
def test_rows_that_are_no_pairs(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"rows.jsonl:1: .*{message}"):
        pairs(written(tmp_path, row))


def test_outcomes(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"prompt": "q", "response": "y", "label": 1, "problem": "p1"},
        {"prompt": "q", "completion": [{"role": "assistant", "content": "n"}], "label": False},
        {"prompt": "q", "response": "", "label": 0},
    )
    found = outcomes(path)
    assert [(row.answer.response, row.labels, row.problem) for row in found.kept] == [
        ("y", [1.0], "p1"),
        ("n", [0.0], "q"),
    ]
    assert found.rejected == {"empty response": 1}
    with pytest.raises(DataError, match="column 'label' holds 2"):
        outcomes(written(tmp_path, {"prompt": "q", "response": "y", "label": 2}))


def labelled(problem: str, right: bool) -> LabelledRow:
    return LabelledRow(answer=AnswerRow(prompt=problem, response="r"), labels=[float(right)], problem=problem)


def test_balanced_by_problem() -> None:
    rows = [labelled("a", right) for right in (True, True, True, False, False)]
    rows += [labelled("b", True), labelled("b", True), labelled("c", True), labelled("c", False)]
    found = balanced(rows, 2)
    sides = {name: [row.labels[0] for row in found.kept if row.problem == name] for name in "abc"}
    assert sides == {"a": [1.0, 1.0, 0.0, 0.0], "b": [], "c": [1.0, 0.0]}
    assert found.rejected == {"only right or only wrong": 2, "balanced away": 1}
