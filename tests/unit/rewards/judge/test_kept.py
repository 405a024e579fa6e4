"""Replies of a judge that are kept in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RewardError
from tests.http_server import HttpServer, in_turn
from tests.unit.rewards.judge.asking import GOOD, ask, judge, says


def test_a_kept_reply_is_not_asked_for_again(server: HttpServer, tmp_path: Path) -> None:
    first = ask(server, "x", "y", cache=str(tmp_path / "kept"))
    again = ask(server, "x", "y", cache=str(tmp_path / "kept"))
    assert [score.value for score in again] == [score.value for score in first] == [0.5, 0.5]
    assert [(score.parts["cached"], score.parts["prompt_tokens"]) for score in again] == [(1, 0)] * 2
    assert len(server.asked) == 2
    ask(server, "x", cache=str(tmp_path / "kept"), max_tokens=99)
    ask(server, "x", cache=str(tmp_path / "kept"), model="another")
    ask(server, "x", cache=str(tmp_path / "kept"), rubric="Another.")
    assert len(server.asked) == 5, "model, options and messages are part of the key"


def test_what_could_not_be_used_is_not_kept(server: HttpServer, tmp_path: Path) -> None:
    server.answer = in_turn(says("no grade"), GOOD)
    assert ask(server, "x", cache=str(tmp_path), retries=0)[0].value is None
    assert ask(server, "x", cache=str(tmp_path), retries=0)[0].value == 1.0


@pytest.mark.parametrize("harm", [b"", b"\xff", b"{}", b"[" * 100_000, "cut", "flip"])
def test_a_broken_entry_is_ignored_counted_and_replaced(server: HttpServer, tmp_path: Path, harm: Any) -> None:
    ask(server, "x", cache=str(tmp_path))
    (entry,) = tmp_path.rglob("*.json")
    whole = entry.read_bytes()
    harms = {"cut": whole[:-5], "flip": whole.replace(rb"\"grade\": 5", rb"\"grade\": 9")}
    entry.write_bytes(harms[harm] if isinstance(harm, str) else harm)
    assert entry.read_bytes() != whole
    (score,) = ask(server, "x", cache=str(tmp_path))
    assert (score.value, score.parts["corrupt_entries"], score.parts["cached"]) == (0.5, 1, 0)
    assert entry.read_bytes() == whole
    assert len(server.asked) == 2


def test_a_cache_that_cannot_be_made_stops_before_anything_is_asked(server: HttpServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RewardError, match=r"cannot be made: .*choose another `cache`"):
        judge(server, cache=str(tmp_path / "file" / "kept"))
