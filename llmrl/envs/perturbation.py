"""A game of two agents over a problem: a writer puts a text around it, and a solver answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from llmrl.answers.thoughts import after_thoughts
from llmrl.errors import RewardError
from llmrl.plugins import build_held, holds, name_of
from llmrl.protocols import Verifier
from llmrl.recipe.ranges import Amount
from llmrl.types import Message, Observation, Problem, Verdict

WRITER, SOLVER = "writer", "solver"
PROMPT, TEXT = "{prompt}", "{text}"
REQUEST = (
    "Write a line that will stand before the question below, so that whoever answers it errs. The right answer must "
    "stay the same. Write nothing but that line.\n\n{prompt}"
)


def filled(template: str, **texts: str) -> str:
    """The template with texts in place of their names in braces, which mean nothing inside of those texts."""
    return re.sub(r"\{(prompt|text)\}", lambda name: texts.get(name[1], name[0]), template)


@dataclass(slots=True)
class PerturbationEpisode:
    """An episode (`llmrl.protocols.Env`) of two turns: the writer's text, and the solver's answer."""

    game: PerturbationGame
    problem: Problem
    valid: bool | None = None  # the writer's text; None: it has not spoken

    async def reset(self) -> Observation:
        """Ask the writer for a text."""
        return Observation(messages=self.game.first_messages(self.problem), agent=WRITER)

    async def step(self, message: Message) -> Observation:
        """Show the problem with the text to the solver, or judge its answer."""
        if self.valid is None:
            return self._perturbed(after_thoughts(str(message["content"])).strip())
        score = self.game.reward(self.problem, str(message["content"]))
        if score.value is None:
            raise RewardError(f"problem {self.problem.id}: the answer could not be judged: {score.reason}")
        misled = self.valid and not score.correct
        writers: Verdict = "correct" if misled else "wrong"
        return Observation(
            agent=SOLVER,
            reward=score.value,
            rewards={WRITER: 1.0 - score.value if self.valid else -self.game.penalty},
            done=True,
            verdict=score.verdict if self.game.player == SOLVER else writers,
            metrics={"valid": float(self.valid), "misled": float(misled)},
        )

    def _perturbed(self, text: str) -> Observation:
        """The problem for the solver, as it is where the text is not valid."""
        *before, asked = self.problem.messages
        self.valid = re.fullmatch(self.game.allowed, text) is not None
        if self.valid:
            asked = {**asked, "content": filled(self.game.template, prompt=str(asked["content"]), text=text)}
        return Observation(messages=[*before, asked], agent=SOLVER)

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass(frozen=True, kw_only=True)
class PerturbationGame:
    """Options of the environment `perturbation`: the solver earns the reward v of its answer, the writer 1 - v.

    A text that `allowed` does not match is not shown, and costs the writer `penalty`. The verdict is that of `player`:
    the writer's is correct where its text was valid and the answer was not right. Adversarial self-play after QARL
    (arXiv 2311.01642), where the writer's rationality is its temperature in `rollout.opponents`.
    """

    reward: Verifier = field(metadata=holds("reward"))  # a rule that judges an answer, from 0 to 1, at once
    request: str = REQUEST  # to the writer; {prompt} is the problem's text
    template: str = "{text}\n\n{prompt}"  # for the solver
    allowed: str = r"[^\n]{1,200}"  # regular expression of a whole text, thoughts and blanks around it left out
    penalty: Amount = 1.0  # for a text that is not allowed

    player: Literal["solver", "writer"] = "solver"  # the agent by which the verdict goes

    agents: ClassVar[Sequence[str]] = (WRITER, SOLVER)

    def __post_init__(self) -> None:
        build_held(self)
        if not callable(self.reward):
            raise ValueError(f"reward {name_of('reward', self.reward)}: expected a rule of one answer, such as numeric")
        if PROMPT not in self.request:
            raise ValueError(f"request {self.request!r:.60}: expected a text with {PROMPT}")
        if self.template.count(TEXT) != 1 or PROMPT not in self.template:
            raise ValueError(f"template {self.template!r:.60}: expected a text with {TEXT} once, and {PROMPT}")
        try:
            re.compile(self.allowed)
        except re.error as error:
            raise ValueError(f"allowed {self.allowed!r:.60}: {error}; expected a regular expression") from None

    def first_messages(self, problem: Problem) -> Sequence[Message]:
        """The request to the writer."""
        *_, asked = problem.messages
        return [{"role": "user", "content": filled(self.request, prompt=str(asked["content"]))}]

    def make(self, problem: Problem) -> PerturbationEpisode:
        """Make an episode of the problem."""
        return PerturbationEpisode(self, problem)


plugin = PerturbationGame
