"""A round of the data flywheel: ways in a game get instructions; those that an agent follows are kept.

A generator writes an instruction for each way (`label`); the agent plays each of them several times, in a stage
`collect` with the environment `follow`; what it follows well teaches both in the next round (`keep`).
Source: SRDF (self-refining data flywheel), whose navigation in photographs is a text game here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.datafiles.rows import file_rows
from llmrl.datagen.replies import replies
from llmrl.datagen.step_labels import opened
from llmrl.envs.follow import STOP
from llmrl.errors import DataError
from llmrl.games.game import TextGame
from llmrl.plugins import build, name_of
from llmrl.protocols import Engine
from llmrl.run_folder import reader
from llmrl.types import Sampling, Trajectory

Row = dict[str, Any]
LABEL = (
    "A player began here:\n{start}\nand did this:\n{actions}\n\nWrite the instruction that the player followed, in one "
    "sentence."
)


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Settings of ways and their instructions."""

    env: Mapping[str, Any] | str  # a text game, in which ways are walked at random
    model: str  # the generator
    walks: int = 200
    least_moves: int = 2
    most_moves: int = 6
    variants: int = 1  # instructions of each way
    temperature: float = 1.0
    max_tokens: int = 64  # of an instruction
    seed: int = 0
    engine: Mapping[str, Any] | str = "vllm"

    def __post_init__(self) -> None:
        if not isinstance(self.game(), TextGame):
            raise ValueError(f"env {self.env!r}: expected a text game")
        if not 1 <= self.least_moves <= self.most_moves or min(self.walks, self.variants, self.max_tokens) < 1:
            raise ValueError("expected walks, variants, max_tokens and least_moves at least 1, most_moves no less")

    def game(self) -> Any:
        """The game."""
        return build("env", self.env, "env")


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """Settings of the filter."""

    env: Mapping[str, Any] | str  # the text game in which they lie
    tasks: str  # that were labelled
    rollouts: str  # of the agent on them
    threshold: float = 0.8  # fidelity of an episode from which it counts as followed
    least_followed: float = 0.5  # share of a task's episodes
    anchors: str | None = None  # tasks that are never left out, such as people's
    anchor_share: float = 0.2  # of all that is kept, at least; fewer labelled ones are taken where anchors are few

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("threshold", "least_followed", "anchor_share")}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} {share}: expected from 0 to 1")


def walks(options: LabelOptions) -> Iterator[Row]:
    """Ways of random actions from the game's starts, those that are long enough and no two alike.

    No way comes to what it has shown before: else there is a shorter one, and where it ends at its start doing nothing
    would be right.
    """
    game, seen = options.game(), set()
    starts, name = game.starts(), name_of("env", game)
    for number in range(options.walks):
        random = Random(f"{options.seed}/walk/{number}")
        start = starts[number % len(starts)]
        actions = _way(game, start, random.randint(options.least_moves, options.most_moves), random)
        key = (start, *actions)
        if len(actions) >= options.least_moves and key not in seen:
            seen.add(key)
            shown = game.shown(game.begin(start))
            yield {"id": f"{name}/walk-{number}", "start": start, "reference": actions, "shown": shown}


def _way(game: TextGame[Any], start: str, length: int, random: Random) -> list[str]:
    """At most so many random actions, each of which shows what was not shown before; none ends the game."""
    state = game.begin(start)
    shown, actions = {game.shown(state)}, list[str]()
    while len(actions) < length:
        moves = [(action, game.play(state, action)) for action in game.actions(state)]
        ahead = [(action, move.state) for action, move in moves if move.end is None]
        ahead = [(action, after) for action, after in ahead if game.shown(after) not in shown]
        if not ahead:
            break
        action, state = random.choice(ahead)
        shown.add(game.shown(state))
        actions.append(action)
    return actions


def write_labelled(options: LabelOptions, out: Path) -> dict[str, int]:
    """Write tasks for data `jsonl` and environment `follow`: an instruction, its way and its start.

    Returns:
        Counts: `walked`, `labelled`, `duplicates`.
    Raises:
        DataError: no way was found, or the file cannot be written.
        CheckpointError, EngineError: the model or the engine does not load.
    """
    from llmrl.evaluation.run import EvalSetup, local_player

    ways = list(walks(options))
    if not ways:
        raise DataError("no way in the game is as long as least_moves; lower it, or raise walks")
    asked = [(way, variant) for way in ways for variant in range(options.variants)]
    prompts = [generator_prompt(way) for way, _ in asked]
    with local_player(options.model, EvalSetup(engine=options.engine), options.seed, options.max_tokens) as player:
        texts = wait(instructions(prompts, options, player.engine, player.chat))
    counts = {"walked": len(ways), "labelled": 0, "duplicates": 0}
    seen: set[tuple[str, str]] = set()
    with opened(out) as file:
        for (way, variant), text in zip(asked, texts, strict=True):
            key = (way["id"], text)
            if not text or key in seen:
                counts["duplicates"] += bool(text)
                continue
            seen.add(key)
            counts["labelled"] += 1
            prompt = [{"role": "user", "content": text}]
            file.write(json.dumps({**way, "id": f"{way['id']}/{variant}", "prompt": prompt}) + "\n")
    return counts


def generator_prompt(way: Mapping[str, Any]) -> str:
    """The prompt in which the generator reads a way."""
    return LABEL.format(start=str(way["shown"]).strip(), actions="\n".join(way["reference"]))


async def instructions(prompts: Sequence[str], options: LabelOptions, engine: Engine, chat: Chat) -> list[str]:
    """The generator's instructions, without line breaks; "" where it wrote nothing."""
    sampling = Sampling(temperature=options.temperature, max_tokens=options.max_tokens, seed=options.seed)
    return [" ".join(text.split()) for text in await replies(prompts, engine, chat, sampling)]


def followed(episodes: Sequence[Trajectory], threshold: float) -> float:
    """Share of a task's episodes that end where they should, on a way that is nearly as short as the reference."""
    right = [episode.verdict == "correct" and episode.metrics["fidelity"] >= threshold for episode in episodes]
    return fmean(right)


def kept_tasks(options: KeepOptions) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Labelled tasks that the agent follows, anchors, and counts: `tasks`, `tried`, `followed`, `anchors`, `kept`.

    Raises:
        DataError: a file cannot be read, or nothing is kept.
    """
    tasks = [dict(row.values) for row in file_rows(Path(options.tasks))]
    tried: dict[str, list[Trajectory]] = {}
    for record in reader.episodes(Path(options.rollouts)):
        if record.trajectory.status != "error":
            tried.setdefault(record.trajectory.problem.id, []).append(record.trajectory)
    shares = {name: followed(episodes, options.threshold) for name, episodes in tried.items()}
    good = [row for row in tasks if shares.get(str(row["id"]), -1.0) >= options.least_followed]
    anchors = [] if options.anchors is None else list(_anchors(Path(options.anchors), build("env", options.env, "env")))
    best = sorted(good, key=lambda row: -shares[str(row["id"])])
    if options.anchors is not None and options.anchor_share > 0:
        best = best[: round(len(anchors) * (1 - options.anchor_share) / options.anchor_share)]
    followed_once = sum(shares[str(row["id"])] > 0 for row in good)  # least_followed may be 0
    counts = {"tasks": len(tasks), "tried": len(tried), "followed": followed_once, "anchors": len(anchors)}
    if not best and not anchors:
        raise DataError(f"{options.rollouts}: no task was followed; lower threshold or least_followed, or train longer")
    return best, anchors, counts | {"kept": len(best)}


def _anchors(path: Path, game: TextGame[Any]) -> Iterator[Row]:
    """Tasks that people wrote, with the text that the game shows at their start."""
    for row in file_rows(path):
        if missing := {"id", "prompt", "start", "reference"} - set(row.values):
            raise DataError(
                f"{row.where}: an anchor without {', '.join(sorted(missing))}; expected a task as `label` writes it"
            )
        yield {"shown": game.shown(game.begin(str(row.values["start"]))), **row.values}


def write_kept(options: KeepOptions, folder: Path) -> dict[str, int]:
    """Write `tasks.jsonl`, `agent.jsonl` (conversations to imitate) and `generator.jsonl` (prompts and instructions).

    Raises:
        DataError: as `kept_tasks`, or a file cannot be written.
    """
    best, anchors, counts = kept_tasks(options)
    game = build("env", options.env, "env")
    with opened(folder / "tasks.jsonl") as tasks, opened(folder / "agent.jsonl") as agent:
        for row in [*anchors, *best]:
            tasks.write(json.dumps(row) + "\n")
            agent.write(json.dumps({"id": row["id"], "messages": _demonstration(game, row)}) + "\n")
    with opened(folder / "generator.jsonl") as generator:
        for row in [*anchors, *best]:
            completion = [{"role": "assistant", "content": row["prompt"][-1]["content"]}]
            asked = [{"role": "user", "content": generator_prompt(row)}]
            generator.write(json.dumps({"prompt": asked, "completion": completion}) + "\n")
    return counts


def _demonstration(game: TextGame[Any], row: Mapping[str, Any]) -> list[Row]:
    """The reference way as the agent would have played it in `follow`."""
    state = game.begin(str(row["start"]))
    text = f"{row['prompt'][-1]['content']}\n\n{game.shown(state)}"
    messages: list[Row] = [*row["prompt"][:-1], {"role": "user", "content": text}]
    for action in row["reference"]:
        move = game.play(state, action)
        state = move.state
        messages += [{"role": "assistant", "content": action}, {"role": "user", "content": move.reply}]
    return [*messages, {"role": "assistant", "content": STOP}]
