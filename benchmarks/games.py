"""Figures of the text games: episodes per second of a core, and returns: `python benchmarks/games.py`.

`--episodes N` for each game and player, `--json FILE`. Seconds are those of the processor, so that other work does not
count. The table in docs/games.md is made of benchmarks/games.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from llmrl import plugins
from llmrl.data.games import Games
from llmrl.evaluation.statistics import estimate
from llmrl.games.play import play, scripted

GAMES: Mapping[str, Mapping[str, Any]] = {
    "maze": {"name": "maze"},
    "text_nav": {"name": "text_nav"},
    "wordle": {"name": "wordle"},
    "wordle, standard": {"name": "wordle", "rule": "standard"},
    "twenty_questions": {"name": "twenty_questions"},
    "guess_city": {"name": "guess_city"},
    "guess_city, yes_no": {"name": "guess_city", "answers": "yes_no"},
    "car_dealer": {"name": "car_dealer"},
    "chess_endgame": {"name": "chess_endgame"},
    "chess_endgame, R": {"name": "chess_endgame", "piece": "R"},
}
PLAYERS = ("random", "oracle")


def measured(name: str, episodes: int) -> dict[str, Any]:
    """Returns and speed of a game by player."""
    game = plugins.build("env", GAMES[name])
    problems = list(islice(Games(env=game, split="all").problems(), episodes))
    figures: dict[str, Any] = {"game": name, "starts": len(game.starts()), "episodes": episodes}
    for player in PLAYERS:
        asyncio.run(play(game.make(problems[0]), scripted(player)))  # tables and caches are made
        start = time.process_time()
        played = [
            asyncio.run(play(game.make(problem), scripted(player, number)))
            for number, problem in enumerate(islice(cycle(problems), episodes))
        ]
        seconds = time.process_time() - start
        figures[player] = {
            "return": estimate([episode.total for episode in played]).as_dict(),
            "won": sum(episode.last.verdict == "correct" for episode in played) / episodes,
            "moves": sum(len(episode.turns) for episode in played) / episodes,
            "episodes_per_s": episodes / seconds,
            "moves_per_s": sum(len(episode.turns) for episode in played) / seconds,
        }
    return figures


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The figures as Markdown."""
    heads = ["game", "random: return", "oracle: return", "won: random, oracle", "moves: oracle", "episodes/s: random"]
    yield f"| {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        returns = ["{value:.2f} ({low:.2f} to {high:.2f})".format(**row[player]["return"]) for player in PLAYERS]
        won = ", ".join(f"{row[player]['won']:.0%}" for player in PLAYERS)
        cells = [row["game"], *returns, won, f"{row['oracle']['moves']:.2f}", f"{row['random']['episodes_per_s']:,.0f}"]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measured(name, options.episodes) for name in GAMES]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
