from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.datagen.answered import Refused, read
from llmrl.datagen.heron import factors_of, write
from llmrl.errors import DataError, LlmrlError, RecipeError
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.ranked_factors import Factor

RIGHT_THEN_SHORT = [Factor(name="numeric"), Factor(name="length", sign=-1, delta_mult=0.5)]
ROWS = [
    {"id": "one", "prompt": "3+4=", "answer": "7", "responses": ["7", "8", "that is 7", " "]},
    {"id": "two", "prompt": "1+1=", "answer": "2", "responses": ["2", "3", "4", "2"]},
]


def given(folder: Path, rows: Sequence[Any]) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_levels_and_thresholds(tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    report = write(given(tmp_path, ROWS), out, RIGHT_THEN_SHORT, workers=1)
    found = {(row["id"], row["chosen"], row["rejected"]): row["factor"] for row in lines(out)}
    assert found == {
        ("one", "7", "8"): "numeric",
        ("one", "that is 7", "8"): "numeric",
        ("one", "7", "that is 7"): "length",
        ("two", "2", "3"): "numeric",
        ("two", "2", "4"): "numeric",
    }
    assert lines(out)[0]["prompt"] == [{"role": "user", "content": "3+4="}]
    assert (report.rows, report.undecided, dict(report.decided)) == (5, 1, {"numeric": 4, "length": 1})
    assert dict(report.refused.counts) == {"an empty answer": 1, "an answer that was seen": 1}
    (frozen,) = lines(tmp_path / "pairs.calibration.json")
    assert frozen["answers"] == 6
    assert frozen["factors"]["length"]["std"] == pytest.approx(3.2660, abs=1e-4)  # of 1, 1, 9, 1, 1, 1
    assert frozen["factors"]["length"]["threshold"] == pytest.approx(1.6330, abs=1e-4)


def test_a_second_call_judges_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "pairs.jsonl"
    answers = given(tmp_path, ROWS[:1])
    write(answers, out, RIGHT_THEN_SHORT, workers=1)
    given(tmp_path, ROWS)
    with (tmp_path / "pairs.measured.jsonl").open("a") as file:
        file.write('{"id": "two", "respon')  # a write that was cut off
    asked = []
    timed = GradingPool.timed

    async def counted(self: GradingPool, verifier: Any, problem: Any, text: str) -> Any:
        asked.append(problem.id)
        return await timed(self, verifier, problem, text)

    monkeypatch.setattr(GradingPool, "timed", counted)
    assert write(answers, out, RIGHT_THEN_SHORT, workers=1).rows == 5
    assert set(asked) == {"two"}
    with pytest.raises(DataError, match=r"was begun with factors .*choose another out"):
        write(answers, out, RIGHT_THEN_SHORT[:1], workers=1)


def test_a_factor_that_never_changes_is_named(tmp_path: Path) -> None:
    report = write(given(tmp_path, ROWS), tmp_path / "p.jsonl", [Factor(name="format"), *RIGHT_THEN_SHORT], workers=1)
    assert list(report.constant) == ["format"]
    assert any("format is the same for all answers" in line for line in report.lines())


def test_nothing_decided_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pair is decided"):
        write(given(tmp_path, ROWS), tmp_path / "p.jsonl", [Factor(name="format")], workers=1)


def test_bad_rows_are_named_and_the_others_are_used(tmp_path: Path) -> None:
    refused = Refused()
    rows = [*ROWS, {"id": "three", "prompt": "x"}, {"id": "one", "prompt": "other", "response": "7"}, {"answer": "1"}]
    assert [one.problem.id for one in read(given(tmp_path, rows), refused)] == ["one", "two"]
    assert refused.counts["a row that cannot be read"] == 2
    assert refused.counts["another prompt under an id that was seen"] == 1
    assert any("answers.jsonl:3: a row that cannot be read: no answers" in place for place in refused.places)


def test_records_of_an_evaluation_are_answers(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "3+4="}]
    rows = [
        {"problem": "a/1", "sample": n, "prompt": prompt, "completion": text, "answer": "7", "verdict": "wrong"}
        for n, text in enumerate(["7", "8"])
    ]
    (one,) = read(given(tmp_path, rows), Refused())
    assert (one.problem.id, one.problem.answer, one.responses) == ("a/1", "7", ["7", "8"])


def test_a_file_without_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row with a prompt and an answer"):
        read(given(tmp_path, [{"prompt": "x"}]), Refused())


def test_factors_of_a_list_and_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "factors.yaml"
    path.write_text("- {name: numeric}\n- {name: length, sign: -1, delta_mult: 0.5}\n")
    assert factors_of(path) == RIGHT_THEN_SHORT
    path.write_text("reward: {name: heron, factors: [{name: numeric}, {name: length, sign: -1, delta_mult: 0.5}]}\n")
    assert factors_of(path) == RIGHT_THEN_SHORT
    path.write_text("reward: {name: numeric}\n")
    with pytest.raises(DataError, match="expected a list of factors"):
        factors_of(path)
    path.write_text("- {name: numeric, sing: -1}\n")
    with pytest.raises(RecipeError, match=r"factor 1\.sing: unknown key; did you mean 'sign'"):
        factors_of(path)


def test_the_command(tmp_path: Path) -> None:
    factors = tmp_path / "factors.yaml"
    factors.write_text("- {name: numeric}\n")
    command = ["data", "heron", str(given(tmp_path, ROWS)), "--factors", str(factors), "--workers", "1"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "pairs.jsonl")])
    assert done.exit_code == 0, done.output
    assert "2 problems, 6 answers, 6 pairs, 4 rows" in done.output
    broken = CliRunner().invoke(app, [*command, "--out", str(factors / "pairs.jsonl")])
    assert isinstance(broken.exception, LlmrlError)
