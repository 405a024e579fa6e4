"""Generators of answers to a benchmark's problems: an engine of llmrl; `remote` has those of a server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from llmrl.chat import Chat
from llmrl.errors import RecipeError
from llmrl.plugins import build, written
from llmrl.protocols import Benchmark, Engine, EnvFactory
from llmrl.recipe import RolloutOptions
from llmrl.rollout.environments import Environments
from llmrl.rollout.episode import EpisodePlayer, PromptTooLongError
from llmrl.types import Problem, Sampling, Trajectory

NO_LIMIT = 1 << 30
"""Tokens of a prompt, where only the engine bounds them."""


@dataclass(frozen=True, slots=True)
class Played:
    """An episode and its length in tokens, for a server gives no token ids."""

    trajectory: Trajectory
    tokens: int | None  # None: the server did not say


class Generator(Protocol):
    """Answers problems."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings besides the sampling that affect answers; plain values, stored with them and compared on resume."""
        ...

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """Generate an answer; a problem that cannot be asked, such as a prompt too long, gives status `error`."""
        ...


@dataclass(frozen=True)
class EngineGenerator:
    """Asks an engine, through the chat template and an environment, as rollouts do."""

    engine: Engine
    chat: Chat
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_prompt_tokens: int | None = None  # None: whatever the engine takes
    max_model_len: int | None = None  # tokens of an episode, where the engine has such a limit
    env: EnvFactory = field(default_factory=partial(build, "env", "single_turn"))
    max_turns: int = 1
    environments: Environments = field(default_factory=Environments, compare=False)

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """Play an episode.

        Raises:
            EngineError: the engine failed.
        """
        limits = RolloutOptions(
            max_prompt_length=self.max_prompt_tokens or NO_LIMIT,
            max_completion_length=sampling.max_tokens,
            max_turns=self.max_turns,
        )
        player = EpisodePlayer(
            engine=self.engine,
            chat=self.chat,
            env=self.env,
            options=limits,
            max_model_len=self.max_model_len,
            environments=self.environments,
        )
        try:
            trajectory = await player.play(problem, partial(of_turn, sampling))
        except PromptTooLongError as error:
            return refused(problem, f"a prompt of {error.tokens} tokens; at most {self.max_prompt_tokens} fit")
        return Played(trajectory, sum(len(turn.completion.token_ids) for turn in trajectory.turns))


def of_turn(sampling: Sampling, turn: int) -> Sampling:
    """The sampling of a turn: that of the answer at first, then with a seed from both."""
    if not turn or sampling.seed is None:
        return sampling
    digest = hashlib.blake2b(f"{sampling.seed}/{turn}".encode(), digest_size=4).digest()
    return replace(sampling, seed=int.from_bytes(digest, "big") >> 1)


def playing(generator: Generator, benchmark: Benchmark, name: str) -> Generator:
    """The generator in the benchmark's environment.

    Raises:
        RecipeError: no such environment, or the generator plays none but `single_turn`; or the benchmark is answered in
            stages, and the generator does not.
    """
    if benchmark.method and benchmark.method != getattr(generator, "method", ""):
        raise RecipeError(f"benchmark {name}: it is answered in stages ({benchmark.method}), by `llmrl eval` alone")
    env = build("env", benchmark.env, f"benchmark {name}: env")
    if not in_environment(benchmark):
        return generator
    if not isinstance(generator, EngineGenerator):
        raise in_no_environment(benchmark, name)
    settings = {"env": written("env", benchmark.env), "max_turns": benchmark.max_turns}
    return replace(
        generator,
        env=env,
        max_turns=benchmark.max_turns,
        settings={**generator.settings, **settings},
        environments=Environments(),  # bounds are of one environment
    )


def in_environment(benchmark: Benchmark) -> bool:
    """Tell if a benchmark is more than a question and its answer."""
    return build("env", benchmark.env) != build("env", "single_turn") or benchmark.max_turns != 1


def in_no_environment(benchmark: Benchmark, name: str) -> RecipeError:
    """The error for a benchmark whose environment a generator cannot play."""
    env = written("env", benchmark.env)["name"]
    return RecipeError(
        f"benchmark {name}: it is played in the environment {env}, which a search and a "
        "server's chat cannot; give the folder of a model, and no search"
    )


def refused(problem: Problem, reason: str) -> Played:
    """Make an episode of status `error` without turns, for a problem that was not asked."""
    return Played(Trajectory(problem=problem, turns=[], status="error", reason=reason), 0)
