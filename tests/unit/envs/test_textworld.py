"""TextWorld's games as an environment; with the package alone, which is an extra."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest

from llmrl.aio import wait
from llmrl.data.textworld import TextWorldGames
from llmrl.envs.textworld import TextWorld, TextWorldEpisode
from llmrl.errors import DataError
from llmrl.types import Observation, Problem

pytestmark = pytest.mark.filterwarnings("ignore:Game .* is not fully supported")  # jericho, of games not its own


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A game of three rooms and four steps, made by the package."""
    textworld = pytest.importorskip("textworld")
    made = tmp_path_factory.mktemp("games")
    options = textworld.GameOptions()
    options.seeds, options.nb_rooms, options.nb_objects, options.quest_length = 7, 3, 5, 4
    options.path, options.force_recompile, options.file_ext = str(made / "one.z8"), True, ".z8"
    textworld.make(options)
    return made


def episode(folder: Path, **options: bool) -> TextWorldEpisode:
    (problem,) = TextWorldGames(folder=str(folder)).problems()
    return TextWorld(folder=str(folder), **options).make(problem)  # type: ignore[arg-type]


def say(played: TextWorldEpisode, text: str) -> Observation:
    seen: Observation = wait(played.step({"role": "assistant", "content": text}))
    return seen


def solution(folder: Path) -> list[str]:
    textworld = importlib.import_module("textworld")
    env = textworld.start(str(folder / "one.z8"), request_infos=textworld.EnvInfos(policy_commands=True))
    return list(env.reset().policy_commands)


def test_a_game_is_won_by_its_own_solution(folder: Path) -> None:
    played = episode(folder)
    first = str(wait(played.reset()).messages[0]["content"])
    assert "-=" in first, "the place"
    assert "$$$" not in first, "no banner"
    commands = solution(folder)
    seen = [say(played, f"<think>hm</think>{command}\nand more") for command in commands]
    assert [each.done for each in seen] == [False] * (len(commands) - 1) + [True]
    assert sum(each.reward for each in seen) == 1.0
    assert seen[-1].verdict == "correct"
    assert dict(seen[-1].metrics) == {"score": 1.0, "moves": float(len(commands))}
    assert not any("\n>" in str(each.messages[0]["content"]) for each in seen)
    wait(played.close())


def test_nonsense_is_answered_and_earns_nothing(folder: Path) -> None:
    played = episode(folder, commands=True)
    assert "Commands: " in str(wait(played.reset()).messages[0]["content"])
    for text in ("", "fly to the moon", "x" * 10_000, "\x00look", "é中\ud800", "take, go. look", "a" * 190 + " look"):
        seen = say(played, text)
        assert (seen.reward, seen.done) == (0.0, False)
    wait(played.close())


def test_no_command_writes_a_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(folder.iterdir())
    played = episode(folder)
    wait(played.reset())
    for text in ("save", "SAVE", "look. save", "look then transcripts", "look,script", "quit", "restart and look"):
        assert say(played, text).messages[0]["content"] == "That is no part of the game."
    assert "recognise" in str(say(played, "saver").messages[0]["content"])
    wait(played.close())
    assert (list(tmp_path.iterdir()), sorted(folder.iterdir())) == ([], before)


@pytest.mark.parametrize("commands", [False, True])
def test_a_game_that_tells_no_highest_score_is_refused(folder: Path, tmp_path: Path, commands: bool) -> None:
    """The story file alone, without what TextWorld knows of it: rewards are shares of a score that nobody tells."""
    shutil.copy(folder / "one.z8", tmp_path / "bare.z8")
    played = episode(tmp_path, commands=commands)
    with pytest.raises(
        DataError, match=r"game bare\.z8: it tells no highest score; expected a game of TextWorld's own"
    ):
        wait(played.reset())
    wait(played.close())


def test_two_games_at_once_do_not_meet(folder: Path) -> None:
    one, two = episode(folder), episode(folder)
    wait(one.reset())
    wait(two.reset())
    for command in solution(folder)[:-1]:
        say(one, command)
    assert not say(two, solution(folder)[-1]).done
    assert say(one, solution(folder)[-1]).verdict == "correct"


def test_files_outside_the_folder_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "games").mkdir()
    for there in ("secret.z8", "games/one.z8"):
        (tmp_path / there).write_bytes(b"")
    options = TextWorld(folder=str(tmp_path / "games"))
    for name in ("../secret.z8", str(tmp_path / "secret.z8"), None):
        with pytest.raises(DataError, match=r"expected one of the 1 games"):
            options.file(Problem(id="p", messages=(), info={"game": name}))
    (tmp_path / "games" / "one.z8").unlink()
    with pytest.raises(DataError, match="no game; make one there"):
        list(TextWorldGames(folder=str(tmp_path / "games")).problems())
    with pytest.raises(DataError, match="no such folder"):
        list(TextWorldGames(folder=str(tmp_path / "none")).problems())


def test_a_game_with_its_source_beside_it_is_one(tmp_path: Path) -> None:
    for name in ("a.z8", "a.json", "a.ni", "b.json"):
        (tmp_path / name).write_text("")
    assert [problem.info["game"] for problem in TextWorldGames(folder=str(tmp_path)).problems()] == ["a.z8", "b.json"]
