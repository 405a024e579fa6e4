"""Demonstrations: rows that the project's own offline reader learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.data.games import Games
from llmrl.datafiles.rows import Row
from llmrl.datagen.demonstrations import Demonstrations, write
from llmrl.errors import DataError
from llmrl.offline.formats import FORMATS, format_of


def made(env: Any, **options: Any) -> Demonstrations:
    data = Games(env=plugins.build("env", env), split=options.pop("split", "train"))
    return Demonstrations(data=data, **options)


def test_rows_are_conversations_with_the_reward_of_each_turn(tmp_path: Path) -> None:
    count, mean = write(made({"name": "maze", "layout": "u"}, episodes=12), tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert (count, len(rows)) == (12, 12)
    assert mean == pytest.approx(sum(row["return"] for row in rows) / 12)
    for number, row in enumerate(rows):
        read = Row(row, f"rows:{number}", number)
        assert format_of(read) == "messages"
        (example,) = FORMATS["messages"].read(read)
        assert example.score.value == 0.0  # the rewards are those of the turns
        assert example.numbers["return"] == row["return"]
        actions = [message for message in example.messages if message["role"] == "assistant"]
        assert sum(message["reward"] for message in actions) == row["return"]
        assert actions[-1]["reward"] == 0.0
    assert len({row["id"] for row in rows}) == 12  # starts come again, rows do not


def test_a_row_per_turn_where_texts_replace_each_other() -> None:
    rows = list(made({"name": "maze", "layout": "u", "memory": False}, episodes=1).rows())
    assert len(rows) == 1 - int(rows[0]["return"])  # -1 for each move but the last
    for row in rows:
        assert [message["role"] for message in row["messages"]][:2] == ["user", "assistant"]
        assert "goal" in row["messages"][0]["content"]
    assert rows[-1]["messages"][-1]["content"] == "Success\n"


def test_random_moves_make_worse_demonstrations_and_seeds_repeat_them() -> None:
    best, mixed, same, random = (
        [row["return"] for row in made("maze", episodes=20, **options).rows()]
        for options in (
            {},
            {"random_share": 0.5},
            {"random_share": 0.5},
            {"player": "random"},
        )
    )
    assert sum(best) > sum(mixed) > sum(random)
    assert mixed == same


def test_files_are_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    write(made("maze", episodes=1), out)
    with pytest.raises(DataError, match="is there already"):
        write(made("maze", episodes=1), out)
    with pytest.raises(DataError, match="cannot be written"):
        write(made("maze", episodes=1), tmp_path / "none" / "rows.jsonl")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="episodes 0"):
        made("maze", episodes=0)
    with pytest.raises(ValueError, match="random_share 2"):
        made("maze", random_share=2)
