"""Games of TextWorld in a folder, one problem each, for the environment `textworld`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmrl.games.files import game_files
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class TextWorldGames:
    """The game files of a folder, by name."""

    folder: str

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for each game.

        Raises:
            DataError: there is no folder, or no game in it.
        """
        for path in game_files(self.folder):
            asked = {"role": "user", "content": f"Play the game {path.stem}."}
            yield Problem(id=path.stem, messages=[asked], info={"game": path.name})


plugin = TextWorldGames
