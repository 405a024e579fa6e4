"""Text adventures of TextWorld, and other games of the Z-machine that it plays (extra `textworld`)."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmrl.answers.thoughts import after_thoughts
from llmrl.errors import DataError, RecipeError
from llmrl.games.files import game_files
from llmrl.protocols import Isolation
from llmrl.types import Message, Observation, Problem

COMMAND = 198  # characters of one that the Z-machine's interpreter takes
FILES = ("save", "restore", "script", "transcript", "noscript", "recording", "replay", "restart", "quit", "q")
"""Commands of the interpreter, most of which write files or read them."""
REFUSED = "That is no part of the game."
_ASCII = re.compile(r"[^ -~]")  # other signs are none of the games', and the interpreter dies of some
_CLAUSES = re.compile(r"[.,;]|\bthen\b|\band\b")
_LETTERS = 9  # of a word, by which the Z-machine knows it
_PROMPT = re.compile(r"\n>[^\n]*\Z")  # the game's prompt, with a line of status behind it


@dataclass(slots=True)
class TextWorldEpisode:
    """An episode of a game file: answers are commands, and what the score rises by is the reward of a turn."""

    env: Any
    options: TextWorld
    name: str
    score: float = 0.0
    most: float = 0.0
    moves: int = 0

    async def reset(self) -> Observation:
        """Show the objective and the place; of a game that has none, what it prints."""
        state = self.env.reset()
        if not state.max_score or (self.options.commands and state.admissible_commands is None):
            lacking = "commands that it would take" if state.max_score else "highest score"
            raise DataError(f"game {self.name}: it tells no {lacking}; expected a game of TextWorld's own")
        self.score, self.moves, self.most = float(state.score), 0, float(state.max_score)
        parts = [state.objective, state.description] if state.objective else [state.feedback]
        return Observation(messages=[self._shown("\n\n".join(filter(None, parts)), state)])

    async def step(self, message: Message) -> Observation:
        """Enter the first line of the text behind the thoughts."""
        lines = after_thoughts(str(message.get("content") or "")).strip().splitlines()
        command = _ASCII.sub("", lines[0])[:COMMAND].strip() if lines else ""
        if leaves_the_game(command):
            self.moves += 1
            return Observation(messages=[{"role": "user", "content": REFUSED}])
        state, score, done = self.env.step(command)
        reward, self.score, self.moves = (score - self.score) / self.most, float(score), self.moves + 1
        if not done:
            return Observation(messages=[self._shown(state.feedback, state)], reward=reward)
        return Observation(
            messages=[self._shown(state.feedback, None)],
            reward=reward,
            done=True,
            verdict="correct" if state.won else "wrong",
            metrics={"score": self.score / self.most, "moves": float(self.moves)},
        )

    async def close(self) -> None:
        """Close the game."""
        self.env.close()

    def _shown(self, text: str, state: Any) -> Message:
        told = _PROMPT.sub("", text.rstrip()).strip()
        if self.options.commands and state is not None:
            told += "\n\nCommands: " + ", ".join(state.admissible_commands)
        return {"role": "user", "content": told}


@dataclass(frozen=True, kw_only=True)
class TextWorld:
    """Options of the environment `textworld`; a problem's `info.game` names a file of `folder`.

    Raises:
        RecipeError: when it starts a game: the package is not installed.
    """

    isolation: ClassVar[Isolation] = "process"  # the interpreter is native code
    max_open_envs: ClassVar[int] = 16

    folder: str  # of games, as `tw-make` writes them
    commands: bool = False  # list what the game would take now; TextWorld's own games alone know that

    def make(self, problem: Problem) -> TextWorldEpisode:
        """Start the game of a problem.

        Raises:
            DataError: `info.game` names none in the folder, or there is no folder. When it begins: it has no score.
        """
        library, path = package(), self.file(problem)
        infos = library.EnvInfos(
            score=True, max_score=True, won=True, objective=True, description=True, admissible_commands=self.commands
        )
        return TextWorldEpisode(library.start(str(path), request_infos=infos), self, path.name)

    def file(self, problem: Problem) -> Path:
        """The game file of a problem."""
        name = problem.info.get("game")
        names = [path.name for path in game_files(self.folder)]
        if name not in names:
            raise DataError(
                f"problem {problem.id}: info.game is {name!r:.80}; expected one of the {len(names)} games in "
                f"{self.folder}; make problems by data: {{name: textworld, folder: {self.folder}}}"
            )
        return Path(self.folder, str(name))


def leaves_the_game(command: str) -> bool:
    """Tell whether a part of a command is for the interpreter, which may hold several."""
    first = (clause.split()[0][:_LETTERS] for clause in _CLAUSES.split(command.lower()) if clause.split())
    return not {word[:_LETTERS] for word in FILES}.isdisjoint(first)


def package() -> Any:
    """Import TextWorld.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        return importlib.import_module("textworld")
    except ImportError as error:
        raise RecipeError(f"env textworld: {error}; install it: pip install 'llmrl[textworld]'") from None


plugin = TextWorld
