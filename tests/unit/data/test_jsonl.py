"""Files of anybody's columns, and a message for each way in which a row can be wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.datafiles.rows import problem_row
from llmrl.errors import DataError, RecipeError
from llmrl.types import Problem


def read(path: Path, **options: Any) -> list[Problem]:
    return list(plugins.build("data", {"name": "jsonl", "path": str(path), **options}).problems())


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "answer", "info"),
    [
        ({"prompt": "2+2?", "solution": "4", "level": 3}, "4", {"solution": "4", "level": 3}),
        ({"prompt": "2+2?", "answer": "4", "tags": ["a"]}, "4", {"tags": ["a"]}),
        ({"problem": "2+2?", "answer": 4, "tags": ["a"]}, "4", {"problem": "2+2?", "answer": 4, "tags": ["a"]}),
        ({"input": "2+2?", "label": "4"}, "4", {"input": "2+2?", "label": "4"}),
        ({"prompt": [{"role": "user", "content": "2+2?"}]}, "", {}),
        (
            {
                "data_source": "sums",
                "prompt": [{"role": "user", "content": "2+2?"}],
                "reward_model": {"style": "rule", "ground_truth": "4"},
                "extra_info": {"index": 7},
            },
            "4",
            {
                "data_source": "sums",
                "extra_info": {"index": 7},
                "reward_model": {"style": "rule", "ground_truth": "4"},
            },
        ),
        (
            {"prompt": "2+2?", "reward_model": {"ground_truth": {"target": 4, "numbers": [2, 2]}}},
            '{"target": 4, "numbers": [2, 2]}',
            {"reward_model": {"ground_truth": {"target": 4, "numbers": [2, 2]}}},
        ),
        ({"prompt": "2+2?", "reward_model": {"ground_truth": 4}}, "4", {"reward_model": {"ground_truth": 4}}),
        (
            {"problem": "2+2?", "solution": "So 4.", "answer": "4"},
            "4",
            {"problem": "2+2?", "solution": "So 4."},
        ),
    ],
)
def test_columns_in_common_use_are_recognised(tmp_path: Path, row: Any, answer: str, info: Any) -> None:
    (problem,) = read(write(tmp_path / "mine.jsonl", row))
    assert problem == Problem(id="mine/0", messages=[{"role": "user", "content": "2+2?"}], answer=answer, info=info)


def test_columns_can_be_named_and_an_instruction_added(tmp_path: Path) -> None:
    row = {"key": 5, "ask": {"text": "2+2?"}, "want": "4", "answer": "no"}
    names = {"prompt_column": "ask.text", "answer_column": "want", "id_column": "key"}
    (problem,) = read(write(tmp_path / "mine.jsonl", row), instruction="Be brief.", **names)
    assert problem == Problem(id="5", messages=[{"role": "user", "content": "2+2?\nBe brief."}], answer="4", info=row)


def test_every_kind_of_file_reads_alike(tmp_path: Path) -> None:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    rows = [{"id": f"p{i}", "prompt": f"{i}+{i}", "answer": str(2 * i)} for i in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "e.parquet")
    first, *others = (read(tmp_path / name) for name in ("a.jsonl", "b.jsonl.gz", "c.json", "d.json.gz", "e.parquet"))
    assert [problem.answer for problem in first] == ["0", "2", "4"]
    assert all(other == first for other in others)


GOOD = {"id": "a", "prompt": "2+2?", "answer": "4"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"prompt": "2+2?", ', r"bad\.jsonl:2: not JSON: .*found '\{\"prompt\""),
        ([1, 2], r"bad\.jsonl:2: expected a JSON object, found list"),
        ({"id": "b", "answer": "4"}, r"bad\.jsonl:2: no column 'prompt'; found id, answer"),
        ({"id": "b", "prompt": "2+2?"}, r"bad\.jsonl:2: no column 'answer'; found id, prompt"),
        ({"id": "b", "prompt": "  ", "answer": "4"}, r"bad\.jsonl:2: the prompt is empty"),
        ({"id": "b", "prompt": [], "answer": "4"}, r"bad\.jsonl:2: the prompt is an empty list"),
        ({"id": "b", "prompt": 22, "answer": "4"}, r"bad\.jsonl:2: the prompt is int; expected text or a list"),
        ({"id": "b", "prompt": ["2+2?"], "answer": "4"}, r"bad\.jsonl:2: message 0: expected an object with role"),
        ({"id": "b", "prompt": [{"role": "user"}], "answer": "4"}, r"bad\.jsonl:2: message 0: content is NoneType"),
        (
            {"id": "b", "prompt": [{"role": "assistant", "content": "4"}], "answer": "4"},
            r"bad\.jsonl:2: the prompt ends with the assistant's words",
        ),
        ({"id": "b", "prompt": "2+2?", "answer": ["4"]}, r"bad\.jsonl:2: column 'answer' holds list"),
        ({"id": "b", "prompt": "2+2?", "answer": ""}, r"bad\.jsonl:2: column 'answer' is empty"),
        ({"id": ["b"], "prompt": "2+2?", "answer": "4"}, r"bad\.jsonl:2: column 'id' holds list"),
        (GOOD, r"bad\.jsonl:2: id 'a' is taken by .*bad\.jsonl:1"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "bad.jsonl", GOOD, row))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", r"empty\.jsonl: holds no rows"),
        ("rows.csv", b"a,b", "unknown ending; expected"),
        (
            "cut.jsonl.gz",
            gzip.compress(b'{"prompt": "1"}\n' * 999, mtime=0)[:30],
            r"cut\.jsonl\.gz: not readable after row",
        ),
        ("latin.jsonl", b'{"prompt": "\xe9"}\n', r"latin\.jsonl:1: not UTF-8 text: byte 0xe9 at column 13"),
        ("list.json", b'[\n{"prompt": "1"},\n{"prompt" "2"}]', r"list\.json:3: not JSON"),
        ("items.json", b"[1]", r"items\.json: item 0: expected a JSON object, found int"),
        ("fake.parquet", b"no parquet at all", r"fake\.parquet: not a parquet file"),
        ("odd.jsonl", b'{"words": "1", "more": 2}\n', r"odd\.jsonl:1: no prompt column; .*found words, more"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_a_file_or_a_name_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(RecipeError, match=r"either path \(a file\) or dataset_name"):
        plugins.build("data", "jsonl")


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


USER = {"role": "user", "content": "2+2?"}
PARTS = [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]
CALLED = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ([{"role": "user", "content": PARTS}], [USER]),
        ([{"role": "user", "content": {"type": "text", "text": "2+2?"}}], [USER]),
        ([{**USER, "name": None, "tool_calls": None}], [USER]),
        (
            [USER, {"role": "assistant", "tool_calls": CALLED}, {"role": "tool", "content": "4"}],
            [
                USER,
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
                },
                {"role": "tool", "content": "4"},
            ],
        ),
    ],
)
def test_messages_are_read_as_templates_take_them(tmp_path: Path, prompt: Any, messages: Any) -> None:
    (problem,) = read(write(tmp_path / "mine.jsonl", {"prompt": prompt, "answer": "4"}))
    assert problem.messages == messages


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}, "content with a part of 'video'"),
        (
            {"role": "user", "content": [{"type": "image", "image": "a.png", "text": "b"}]},
            "content with a part of 'image'",
        ),
        ({"role": "user", "content": 4}, "content is int; expected text"),
        ({"role": "user", "content": [4]}, "content with a part of 'int'"),
        ({"role": "user", "content": None}, "content is NoneType"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "tool_calls .* expected",
        ),
    ],
)
def test_messages_that_are_no_text_are_named(tmp_path: Path, message: Any, said: str) -> None:
    with pytest.raises(DataError, match=rf"bad\.jsonl:2: message 0: {said}"):
        read(write(tmp_path / "bad.jsonl", GOOD, {"prompt": [message, USER], "answer": "4"}))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_no_answers(tmp_path: Path, value: str) -> None:
    path = write(tmp_path / "bad.jsonl", GOOD, f'{{"prompt": "2+2?", "answer": {value}}}')
    with pytest.raises(DataError, match=r"bad\.jsonl:2: column 'answer' holds -?(nan|inf)"):
        read(path)


def test_numbers_are_written_out(tmp_path: Path) -> None:
    from decimal import Decimal

    answers = [7, 0.5, 10**400]
    rows = [{"prompt": "?", "answer": answer} for answer in answers]
    assert [problem.answer for problem in read(write(tmp_path / "a.jsonl", *rows))] == [str(a) for a in answers]
    assert read(table(tmp_path / "a.parquet", [{"prompt": "?", "answer": Decimal("4.50")}]))[0].answer == "4.50"


def test_a_null_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "2+2?", "answer": "4"}, {"prompt": "2+3?", "answer": None}]
    with pytest.raises(DataError, match=r"a\.parquet: row 1: column 'answer' is null"):
        read(table(tmp_path / "a.parquet", rows))
    with pytest.raises(DataError, match=r"b\.parquet: row 1: column 'prompt' is null"):
        read(table(tmp_path / "b.parquet", [rows[0], {"prompt": None, "answer": "5"}]))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            {"final_answer": None, "answer": "so 4"},
            {"final_answer": "5", "answer": "so 5"},
            "its answer is in 'answer'",
        ),
        ({"answer": None}, {"answer": "5"}, "it has no answer"),
        ({}, {"answer": "5"}, "it has no answer"),
    ],
)
def test_an_answer_that_the_first_row_lacks_is_never_passed_over(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], said: str
) -> None:
    path = write(tmp_path / "bad.jsonl", {"prompt": "2+2?", **first}, {"prompt": "2+3?", **second})
    with pytest.raises(DataError, match=rf"bad\.jsonl:2: column '(final_)?answer' has a value, and at .*:1 .*{said}"):
        read(path)


def test_only_a_text_called_prompt_is_plain(tmp_path: Path) -> None:
    rows = [{"prompt": "2+2?"}, {"prompt": [USER]}, {"question": "2+2?"}]
    files = [write(tmp_path / f"{number}.jsonl", row) for number, row in enumerate(rows)]
    assert [read(path)[0].plain for path in files] == [True, False, False]


def test_a_problem_is_written_as_it_is_read(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "2+2?", "answer": 4, "level": 3},
        {"id": "b", "prompt": [USER], "answer": "4"},
        {"id": 7, "question": "2+2?", "solution": "4"},
    ]
    for number, row in enumerate(rows):
        (problem,) = read(write(tmp_path / f"{number}.jsonl", row))
        (again,) = read(write(tmp_path / "again.jsonl", problem_row(problem)))
        assert (again.id, again.messages, again.answer) == (problem.id, problem.messages, problem.answer)
        assert again.info.items() >= {key: value for key, value in problem.info.items() if key != "id"}.items()
    names = {"prompt_column": "ask", "answer_column": "want"}
    (problem,) = read(
        write(tmp_path / "named.jsonl", {"ask": "2+2?", "want": "4", "prompt": "no", "answer": "5"}), **names
    )
    (again,) = read(write(tmp_path / "again.jsonl", problem_row(problem)))
    assert (again.messages, again.answer) == (problem.messages, "4")
