from __future__ import annotations

from pathlib import Path

import pytest

from llmrl.errors import DataError, RecipeError
from llmrl.view.terminal import ShowOptions, clean, lines
from tests.view_runs import HOSTILE, write_run, write_step


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", steps=3, count=8)


def shown(run: Path, **wanted: object) -> str:
    return "\n".join(lines(run, ShowOptions(**wanted)))  # type: ignore[arg-type]


def test_the_worst_of_the_last_step(run: Path) -> None:
    text = shown(run, worst=2)
    assert text.startswith("run, step 2: 8 episodes, mean reward 0.5\n")
    assert text.count("── step 2") == 2
    assert "answer 1 of step 2" in text
    assert "answer 3 of step 2" in text
    assert "wrong, reward 0" in text
    assert "reason: read 1" in text
    assert "answer 0 of step 1" in shown(run, step=1, best=1)


def test_words_verdicts_and_all_steps(run: Path) -> None:
    assert shown(run, text="answer 4", all_steps=True).count("──") == 3
    assert "steps 0 to 2: 12 episodes" in shown(run, verdict="wrong", all_steps=True)
    assert shown(run, verdict="timeout").strip() == "run, step 2: 0 episodes"


def test_no_text_commands_the_terminal(tmp_path: Path) -> None:
    write_step(tmp_path, 0, 6, texts=HOSTILE)
    text = shown(tmp_path, worst=6)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31mred" in text
    assert clean("a\tb\nc\r") == "a\tb\nc\\x0d"


def test_long_texts_are_cut_unless_asked_for(tmp_path: Path) -> None:
    write_step(tmp_path, 0, 2, texts=["word " * 500], turns=6)
    assert "characters more" in shown(tmp_path, best=1)
    assert "2 turns more; --whole prints them" in shown(tmp_path, best=1)
    assert "more" not in shown(tmp_path, best=1, whole=True)


def test_what_is_not_there_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(DataError, match=r"no rollouts.jsonl; expected the folder of a run"):
        shown(tmp_path)
    with pytest.raises(DataError, match="no episodes of step 9; there are some of steps 0 to 2"):
        shown(run, step=9)
    (tmp_path / "rollouts.jsonl").write_text("")
    with pytest.raises(DataError, match="no episode in it yet"):
        shown(tmp_path)
    for wrong in ({"verdict": "right"}, {"worst": 1, "best": 1}, {"all_steps": True, "step": 0}):
        with pytest.raises(RecipeError, match="expected one of"):
            shown(run, **wrong)
