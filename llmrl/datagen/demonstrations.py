"""Demonstrations: episodes of text games by scripted players, as rows to imitate or to learn a critic from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from llmrl import aio
from llmrl.data.games import Games
from llmrl.errors import DataError
from llmrl.games.play import Playthrough, Scripted, play, scripted
from llmrl.types import Message, Problem

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """Episodes of a scripted player, from the starts of `data` in their order, again and again."""

    data: Games
    player: Scripted = "oracle"
    random_share: float = 0.0  # of the oracle's moves
    episodes: int = 1000
    seed: int = 0  # of the draws

    def __post_init__(self) -> None:
        if not 0 <= self.random_share <= 1:
            raise ValueError(f"random_share {self.random_share}: expected 0 to 1")
        if self.episodes < 1:
            raise ValueError(f"episodes {self.episodes}: expected at least 1")
        if self.data.env.agents:
            agents = ", ".join(self.data.env.agents)
            raise ValueError(f"env: {agents} play as agents, and rows are of one player; expected opponent: perfect")

    def played(self) -> Iterator[tuple[Problem, Playthrough]]:
        """Play the episodes, one after the other.

        Raises:
            DataError: the split has no starts.
        """
        return islice(self._endless(), self.episodes)

    def rows(self) -> Iterator[Row]:
        """Rows of the format `messages`: each message of the player has its reward.

        An episode is a row; where texts replace those before them (`memory: false`) each turn is one.
        """
        for number, (problem, episode) in enumerate(self.played()):
            facts = {"id": f"{problem.id}#{number}", "return": episode.total}
            for messages in conversations(episode):
                yield {**facts, "messages": messages}

    def _endless(self) -> Iterator[tuple[Problem, Playthrough]]:
        numbers = count()
        for _ in count():
            empty = True
            for problem in self.data.problems():
                empty = False
                choose = scripted(self.player, f"{self.seed}/{next(numbers)}", self.random_share)
                yield problem, aio.wait(play(self.data.env.make(problem), choose))
            if empty:
                raise DataError(f"split {self.data.split!r} of the game has no starts; choose --split all")


def conversations(episode: Playthrough) -> Iterator[list[Mapping[str, Any]]]:
    """The messages of an episode; a new conversation begins where a text replaces those before it."""
    messages: list[Message] = list(episode.first.messages)
    for action, seen in episode.turns:
        messages.append({"role": "assistant", "content": action, "reward": seen.reward})
        if seen.whole:
            yield messages
            messages = []
        messages += seen.messages
    yield messages


def write(made: Demonstrations, out: Path) -> tuple[int, float]:
    """Write the rows to a file that is not there yet; return the number of episodes and their mean return.

    Raises:
        DataError: the file is there, or cannot be written, or the split has no starts.
    """
    returns: dict[str, float] = {}
    try:
        with open(out, "x", encoding="utf-8") as file:
            for row in made.rows():
                returns[row["id"]] = row["return"]
                file.write(json.dumps(row) + "\n")
    except FileExistsError:
        raise DataError(f"{out}: is there already; choose another --out, or remove it") from None
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}; choose another --out") from None
    return len(returns), sum(returns.values()) / len(returns)
