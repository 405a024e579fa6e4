"""Play an episode of an environment without a model: a scripted player, or a person, chooses the actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from llmrl.errors import RecipeError
from llmrl.games.game import GameEpisode
from llmrl.protocols import Env
from llmrl.types import Observation

Choose = Callable[[Env, Observation], str]
"""Function from an environment and what it showed last to the next action."""
Scripted = Literal["random", "oracle"]


@dataclass(slots=True)
class Playthrough:
    """An episode that was played: what was shown first, then each action with the observation that answered it."""

    first: Observation
    turns: list[tuple[str, Observation]] = field(default_factory=list)

    @property
    def last(self) -> Observation:
        return self.turns[-1][1] if self.turns else self.first

    @property
    def total(self) -> float:
        """The return: the sum of all rewards."""
        return sum(self.returns.values())

    @property
    def returns(self) -> dict[str, float]:
        """The return of each agent that acted, in the order of their first actions; of a single one under ""."""
        earned: dict[str, float] = {}
        actor = self.first.agent
        for _, seen in self.turns:
            earned[actor] = earned.get(actor, 0.0) + seen.reward
            for agent in seen.rewards.keys() & earned.keys():  # one that has not acted earns nothing
                earned[agent] += seen.rewards[agent]
            actor = seen.agent
        return earned


async def play(env: Env, choose: Choose, on_observation: Callable[[Observation], Any] | None = None) -> Playthrough:
    """Play until the environment ends the episode; the environment is closed.

    Args:
        on_observation: called with each observation, the first and the last included.
    """
    try:
        played = Playthrough(await env.reset())
        tell = on_observation or (lambda seen: None)
        tell(played.last)
        while not played.last.done:
            action = choose(env, played.last)
            played.turns.append((action, await env.step({"role": "assistant", "content": action})))
            tell(played.last)
        return played
    finally:
        await env.close()


def scripted(player: Scripted, seed: int | str = 0, random_share: float = 0.0) -> Choose:
    """A player for an episode of a text game.

    Args:
        player: `oracle` plays the expert's actions, `random` draws among all.
        seed: of the draws, which depend on nothing else but the number of the move.
        random_share: share of the oracle's moves that are drawn, too, 0 to 1.
    Raises:
        RecipeError: once it is to choose in an environment that is no text game.
    """
    random = Random(f"player/{seed}")

    def choose(env: Env, seen: Observation) -> str:
        if not isinstance(env, GameEpisode):
            raise RecipeError(
                f"{type(env).__name__} has no scripted player: it is no text game of llmrl.games; play it yourself"
            )
        if player == "random" or random.random() < random_share:
            return random.choice(env.game.actions(env.state))
        return env.game.best(env.state)

    return choose
