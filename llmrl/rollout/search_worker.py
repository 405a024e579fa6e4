"""Run episodes by a search: a rollout worker whose answers are chosen among several."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmrl.errors import RecipeError
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.searcher import Searcher
from llmrl.reasoning.strategy import Strategy
from llmrl.rollout.worker import RolloutWorker
from llmrl.types import Observation, Problem, Status, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchWorker(RolloutWorker):
    """Answers each problem by a strategy; groups, seeds, scores and limits are those of every worker.

    An answer that was chosen is not a sample of the policy: its log-probabilities are, token by token, but a policy
    gradient on it is biased towards what the judge likes. Imitation and preferences are at home here.
    """

    strategy: Strategy
    judge: AnswerJudge | None = None
    budget: int | None = None  # tokens that may be generated for an episode

    async def _talk(
        self,
        problem: Problem,
        group: str,
        episode: int,
        shown: list[Observation],
        turns: list[Turn],
        prefix: list[int],
    ) -> Status:
        """Append the first observation and the turns of the chosen answer; return how the episode ended.

        Raises:
            RecipeError: there is a prefix, or an environment that goes on after an answer.
        """
        if prefix:
            raise RecipeError("a search begins with the question; expected a source without restarts")
        searcher = Searcher(
            engine=self.engine,
            chat=self.chat,
            strategy=self.strategy,
            judge=self.judge,
            budget=self.budget,
            max_model_len=self.options.max_length,
        )
        env = self.env.make(problem)
        try:
            seen = await env.reset()
            shown.append(seen)
            prompt = self._prompt(problem, seen.messages, seen.tools)
            found = (await searcher.play(problem, self._sampling(group, episode, 0), prompt)).trajectory
            reply = await env.step({"role": "assistant", "content": found.text})
        finally:
            await env.close()
        if not reply.done:
            raise RecipeError("a search answers once, and the environment goes on; expected env: {name: single_turn}")
        turns += found.turns
        if turns:
            turns[-1] = replace(turns[-1], reply=reply.messages, reward=reply.reward)
        return found.status
