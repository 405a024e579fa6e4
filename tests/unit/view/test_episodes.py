from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from llmrl.view import episodes as episodes_module
from llmrl.view.episodes import EpisodeFilter, Episodes
from tests.view_runs import HOSTILE, write_run, write_step


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", steps=3, count=10)


def shown(folder: Path, **wanted: object) -> list[tuple[int, int]]:
    """Steps and rows that a filter lets pass, in its order."""
    found = Episodes(folder)
    chosen, share = found.select(EpisodeFilter(**wanted), 60.0)  # type: ignore[arg-type]
    assert share == 1.0
    return [(row["step"], row["row"]) for row in found.listed(chosen)]


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def test_filters_say_what_they_say(run: Path) -> None:
    every = [(step, row) for step in range(3) for row in range(10)]
    assert shown(run) == every
    assert shown(run, step=1) == [(1, row) for row in range(10)]
    assert shown(run, step=7) == []
    assert shown(run, step=1, verdict="correct") == [(1, row) for row in range(0, 10, 2)]
    assert shown(run, verdict="none") == shown(run, verdict="no such") == []
    assert shown(run, least_reward=0.5) == shown(run, verdict="correct")
    assert shown(run, most_reward=0.5) == shown(run, verdict="wrong")
    assert shown(run, step=0, least_tokens=5, most_tokens=6) == [(0, n) for n in range(10) if 5 <= 3 + n % 5 <= 6]
    assert shown(run, truncated=True) == []
    assert shown(run, truncated=False) == every
    assert shown(run, step=2, group=1) == [(2, row) for row in range(4, 8)]


def test_orders(run: Path) -> None:
    assert shown(run, step=0, order="file", descending=True) == [(0, row) for row in reversed(range(10))]
    by_reward = shown(run, step=0, order="reward")
    assert by_reward == [*((0, row) for row in range(1, 10, 2)), *((0, row) for row in range(0, 10, 2))]
    assert shown(run, step=0, order="reward", descending=True)[0] == (0, 0), "of equals the first stands first"
    lengths = [3 + row % 5 for _, row in shown(run, step=0, order="tokens")]
    assert lengths == sorted(lengths)


def test_an_episode_without_a_reward_stands_last(tmp_path: Path) -> None:
    write_step(tmp_path, 0, 3)
    path = tmp_path / "rollouts.jsonl"
    whole = path.read_text().splitlines()
    whole[0] = whole[0].replace('"reward":1.0,"verdict":"correct"', '"reward":null,"verdict":null')
    path.write_text("\n".join(whole) + "\n")
    assert shown(tmp_path, order="reward")[-1] == (0, 0)
    assert shown(tmp_path, order="reward", descending=True)[-1] == (0, 0)
    assert shown(tmp_path, verdict="none") == [(0, 0)]
    assert (0, 0) not in shown(tmp_path, least_reward=-99) + shown(tmp_path, most_reward=99)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("answer 3 of step 1", [(1, 3)]),
        ("ANSWER 3 OF", [(step, 3) for step in range(3)]),
        ("9+1=", [(step, 9) for step in range(3)]),
        ("read 8", [(step, 8) for step in range(3)]),
        ("sums/2", [(step, row) for step in range(3) for row in (8, 9)]),
        ("token_ids", []),
        ("-1.5", []),  # a log-probability of every one
        ('"episode"', []),
    ],
)
def test_words_are_found_in_texts_and_nowhere_else(text: str, expected: list[tuple[int, int]], run: Path) -> None:
    assert shown(run, text=text) == expected


def test_any_text_is_found(tmp_path: Path) -> None:
    texts = [*HOSTILE, "Ünïcödé Straße", "two\nlines", 'a "quote" and a \\', 'logprobs":[1,2]', "[1, 2]"]
    write_step(tmp_path, 0, len(texts), texts=texts)
    for number, text in enumerate(texts):
        assert (0, number) in shown(tmp_path, text=text)
    assert shown(tmp_path, text="üNÏcödé stRAßE") == [(0, texts.index("Ünïcödé Straße"))]


def test_a_search_goes_on_where_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Episodes(run)
    wanted = EpisodeFilter(text="answer 3")
    shares = []
    while not shares or shares[-1] < 1:
        chosen, share = found.select(wanted, 0.0)  # a line at a time
        shares.append(share)
    assert len(shares) == 30
    assert len(chosen) == 3
    read: list[object] = []
    monkeypatch.setattr(episodes_module, "_holds", lambda *given: read.append(given))
    assert len(found.select(EpisodeFilter(text="answer 3", verdict="wrong"), 9.0)[0]) == 3
    assert not read, "what is known is not read again"


def test_new_episodes_are_there_without_being_asked_for(run: Path) -> None:
    found = Episodes(run)
    assert len(found.steps()) == 3
    assert found.select(EpisodeFilter(text="answer 1 of step 3"), 9.0)[0].tolist() == []
    write_step(run, 3, 4)
    assert [each["step"] for each in found.steps()] == [0, 1, 2, 3]
    assert len(found.select(EpisodeFilter(text="answer 1 of step 3"), 9.0)[0]) == 1


def test_steps_are_summed_up(run: Path) -> None:
    assert Episodes(run).steps()[1] == {"step": 1, "episodes": 10, "reward": 0.5, "accuracy": 0.5}


def test_siblings_are_those_of_the_group(run: Path) -> None:
    assert [each["row"] for each in Episodes(run).siblings(1, 5)] == [4, 5, 6, 7]
    assert Episodes(run).siblings(1, 99) == []
    assert Episodes(run).whole(1, 99) is None
    assert Episodes(run).whole(1, 5) == lines(run)[15]


def test_a_large_file_is_read_in_the_background_and_its_end_is_there(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, size = threading.Event(), (run / "rollouts.jsonl").stat().st_size
    original = episodes_module.RolloutIndex.extend

    def slow(self: object, *given: object) -> bool:
        held.wait(20)
        return original(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(episodes_module.RolloutIndex, "extend", slow)
    monkeypatch.setattr(episodes_module, "AT_ONCE", 1)
    monkeypatch.setattr("llmrl.view.index.TAIL_BYTES", (size // 2,))
    found = Episodes(run)
    began = time.monotonic()
    assert [each["step"] for each in found.steps()] == [2]
    assert time.monotonic() - began < 5
    assert found.progress < 1
    row = found.listed(found.select(EpisodeFilter(step=2))[0][3:4])[0]
    assert (row["row"], row["text"]) == (3, "answer 3 of step 2")
    held.set()
    assert found.wait(20)
    assert [each["step"] for each in found.steps()] == [0, 1, 2]
    assert found.progress == 1
    assert (run / "rollouts.index").exists()
    found.close()


def test_no_file_and_an_empty_one(tmp_path: Path) -> None:
    assert Episodes(tmp_path).steps() == []
    (tmp_path / "rollouts.jsonl").write_bytes(b"")
    assert Episodes(tmp_path).steps() == []
    assert Episodes(tmp_path).listed(np.arange(3)) == []
