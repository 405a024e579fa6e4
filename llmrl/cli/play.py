"""Command `llmrl play`: a person, or a scripted player, plays an environment in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmrl.errors import RecipeError

if TYPE_CHECKING:
    from llmrl.games.play import Choose
    from llmrl.protocols import Env
    from llmrl.types import Observation, Problem

PLAYERS = ("person", "oracle", "random")


def play(
    env: Annotated[str, typer.Argument(help="Environment: maze, or {name: maze, layout: u}.")],
    player: Annotated[
        str, typer.Option(help="Player: person, oracle or random; the last two play text games.")
    ] = "person",
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes; the problems are repeated.")] = 1,
    data: Annotated[
        str | None,
        typer.Option(help="Problems: a dataset, or {name: ..., option: ...}; by default the starts of the game."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of starts and of the player.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the results.")] = False,
) -> None:
    """Play an environment in the terminal. Each line that you type is an action; Ctrl-D ends the game."""
    from llmrl import aio, plugins
    from llmrl.games.game import TextGame
    from llmrl.games.play import play as play_episode
    from llmrl.games.play import scripted
    from llmrl.recipe import yaml_text

    if player not in PLAYERS:
        close = plugins.did_you_mean(player, PLAYERS)
        raise RecipeError(f"--player {player}{close}; expected one of {', '.join(PLAYERS)}")
    spec = yaml_text.parse(env, "ENV")
    factory = plugins.build("env", spec, "ENV")
    if data is None and not isinstance(factory, TextGame):
        raise RecipeError(f"{env} is no text game with starts of its own; name its problems by --data")
    problems = yaml_text.parse(data, "--data") if data else {"name": "games", "env": spec, "split": "all", "seed": seed}
    returns = []
    for number, problem in enumerate(islice(_again(problems), episodes)):
        choose = _asked if player == "person" else scripted(player, f"{seed}/{number}")  # type: ignore[arg-type]
        try:
            episode = aio.wait(play_episode(factory.make(problem), _loud(choose, quiet), None if quiet else _show))
        except EOFError:
            print("\nended before the game did")
            return
        returns.append(episode.returns)
        ending = "cut off" if episode.last.cut else episode.last.verdict or "done"
        numbers = " ".join(f"{name}={value:g}" for name, value in episode.last.metrics.items())
        earned = _by_agent([episode.returns])
        print(f"{problem.id}: return {earned} in {len(episode.turns)} moves, {ending} {numbers}".rstrip())
    if len(returns) > 1:
        print(f"{len(returns)} episodes: mean return {_by_agent(returns)}")


def _by_agent(returns: Sequence[Mapping[str, float]]) -> str:
    """The mean return, or that of each agent where several act."""
    agents = dict.fromkeys(agent for earned in returns for agent in earned)
    means = {agent: fmean(earned[agent] for earned in returns if agent in earned) for agent in agents}
    return " ".join(f"{agent}={mean:g}" if agent else f"{mean:g}" for agent, mean in means.items()) or "0"


def _again(spec: Any) -> Iterator[Problem]:
    """The problems of a dataset, again and again.

    Raises:
        RecipeError: it has none.
    """
    from llmrl import plugins

    dataset = plugins.build("data", spec, "--data")
    for _ in count():
        empty = True
        for problem in dataset.problems():
            empty = False
            yield problem
        if empty:
            raise RecipeError(f"--data {spec}: has no problems; choose another split")


def _show(seen: Observation) -> None:
    if seen.agent and not seen.done:
        print(f"[{seen.agent}]")
    for message in seen.messages:
        role, content = message["role"], str(message.get("content", ""))
        print(content.rstrip("\n") if role == "user" else f"{role}: {content}")
    if seen.reward:
        print(f"(reward {seen.reward:g})")
    for agent, reward in seen.rewards.items():
        print(f"(reward of {agent} {reward:g})")


def _asked(env: Env, seen: Observation) -> str:
    return input("> ")


def _loud(choose: Choose, quiet: bool) -> Choose:
    """The player, whose actions are printed unless a person has just typed them."""

    def told(env: Env, seen: Observation) -> str:
        action = choose(env, seen)
        if not quiet and choose is not _asked:
            print(f"> {action}")
        return action

    return told
