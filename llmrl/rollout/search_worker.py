"""Run episodes by a search: a rollout worker whose answers are chosen among several."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmrl.errors import RecipeError
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.searcher import Searcher
from llmrl.reasoning.strategy import Strategy
from llmrl.rollout.environments import OpenEnv
from llmrl.rollout.episode import Conversation, OpenEpisode, TurnSampling
from llmrl.rollout.worker import RolloutWorker
from llmrl.types import Problem, Status


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
        self, env: OpenEnv, problem: Problem, played: OpenEpisode, sampling: TurnSampling, prefix: list[int]
    ) -> Status:
        """Play the turns of the chosen answer; return how the episode ended.

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
            max_model_len=self._room,
        )
        played.first = seen = await env.reset()
        prompt = self._prompt(problem, Conversation(), seen)
        chosen = (await searcher.play(problem, sampling(0), prompt)).trajectory
        played.last = reply = await env.step({"role": "assistant", "content": chosen.text})
        if not reply.done:
            raise RecipeError("a search answers once, and the environment goes on; expected env: {name: single_turn}")
        played.turns += chosen.turns
        if played.turns:
            played.turns[-1] = replace(played.turns[-1], reply=reply.messages, reward=reply.reward)
        return chosen.status
