"""Grades by a language model behind an OpenAI-compatible server: by a rubric, or of a group against each other."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from llmrl.clients.chat_completions import ChatClient, Connection, PricedChatOptions, Reply, Usage
from llmrl.clients.retry import together
from llmrl.datafiles.images import images_of
from llmrl.errors import DataError, RewardError
from llmrl.rewards.judge import prompt
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.trl_functions import Timed
from llmrl.types import Problem, Score, Trajectory, Verdict
from llmrl.vision import pictures

MOST_GRADES = 101
RUBRIC = "The answer is correct, answers all that was asked, and is clear."
POINTS = {"A": 1.0, "tie": 0.5, "B": 0.0}  # of the answer that is shown first
Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Judge(PricedChatOptions):
    """Grades of a language model: by `rubric`, mapped to 0 .. 1, or `pairwise`, the share of wins against siblings.

    Every pair is judged in both orders; where these disagree it is a tie, half a win for each. Equal texts are judged
    once, and tie. An answer that the model did not judge is an `error` without a value, and so is, pairwise, one
    without a judged comparison with each sibling. Not bound by `rollout.reward_timeout_s`: a request ends within
    `patience_s` of its first try. Parts: `grade`, or `ties` and `disagreements` (shares of an answer's comparisons);
    `requests`, `prompt_tokens`, `completion_tokens`, `cost`, `cached` and `corrupt_entries` of the cache.

    Raises:
        RewardError: the server refuses every request, as for a wrong key or an unknown model.

    Pictures of a problem are shown beside it: the model must see, then. With `reads: picture` it is shown the last
    picture of each episode, and no text of the policy; an episode without one is an `error`. Pairwise that is the
    feedback of RL-VLM-F (arXiv 2402.03681), whose labels 0, 1 and -1 are A, B and tie; here they are the reward itself,
    and no reward model is fitted to them.

    Source: both forms, and the swap against the bias for a position: Zheng et al. 2023 (arXiv 2306.05685), section 3.
    """

    retries: int = 4
    form: Literal["rubric", "pairwise"] = "rubric"
    rubric: str = RUBRIC
    rubric_column: str | None = None  # of `info`, whose text replaces `rubric`
    reference: bool = False  # whether the judge is shown `answer` of the problem
    lowest: int = 0  # grade
    highest: int = 10
    correct_from: float | None = None  # a value from which the verdict is `correct`, else `wrong`; None: no verdict
    explain: bool = True  # whether the model gives its reason before the grade
    structured: bool = True  # whether the server is asked to hold the model to JSON of a schema
    reads: Literal["answer", "all", "picture"] = "answer"  # the text behind thoughts, all of it, or the last picture

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.highest - self.lowest < MOST_GRADES:
            raise ValueError(
                f"grades {self.lowest} .. {self.highest}: expected lowest below highest, {MOST_GRADES} at most"
            )
        if self.correct_from is not None and (self.form == "pairwise" or not 0 <= self.correct_from <= 1):
            raise ValueError(
                "correct_from: expected from 0 to 1, and form rubric: a share of wins is no right or wrong"
            )

    def as_group_reward(self, pool: GradingPool) -> JudgeReward:
        """Make the group reward. Its time limits are its own: a pool's are for work that keeps a processor busy."""
        return JudgeReward("judge", options=self, chat=ChatClient("judge", self))

    def score_of(self, grade: int, reason: str, parts: Mapping[str, float | None]) -> Score:
        """Score of a graded answer."""
        value = (grade - self.lowest) / (self.highest - self.lowest)
        verdict: Verdict | None = None
        if self.correct_from is not None:
            verdict = "correct" if value >= self.correct_from else "wrong"
        return Score(value, verdict, {"grade": float(grade), **parts}, reason=reason[:300])


@dataclass(frozen=True)
class Duel:
    """Two answers, compared in both orders."""

    points: float | None  # of the first: 1 won, 0.5 tied, 0 lost; None: not judged, for the reason `failure`
    disagreed: bool
    usage: Usage
    failure: str = ""


@dataclass
class JudgeReward(Timed):
    """Asks about all answers of a group at once, as far as the bounds of the judge allow."""

    options: Judge = field(kw_only=True)
    chat: ChatClient = field(kw_only=True)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        if not group:
            return []
        start = time.monotonic()
        unfit = [self._unfit(one) for one in group]
        if any(unfit):
            scores = [
                _error(one, said or "a sibling's problem cannot be judged")
                for one, said in zip(group, unfit, strict=True)
            ]
        else:
            async with self.chat.connected() as connection:
                judged = self._compared if self.options.form == "pairwise" else self._graded
                scores = await judged(connection, group)
        self.seconds += [(time.monotonic() - start) / len(group)] * len(group)
        return scores

    async def _graded(self, connection: Connection, group: Sequence[Trajectory]) -> list[Score]:
        keys = [(one.problem.id, self._text(one)) for one in group]
        firsts = {key: one.problem for key, one in reversed(list(zip(keys, group, strict=True)))}
        answers = dict(
            zip(
                firsts,
                await together(self._one(connection, problem, text) for (_, text), problem in firsts.items()),
                strict=True,
            )
        )
        scores = []
        for key, one in zip(keys, group, strict=True):
            answer = answers[key]
            parts = (answer.usage if key in firsts else Usage()).parts(self.options)
            firsts.pop(key, None)  # equal texts are judged, and cost, once
            if answer.value is None:
                scores.append(_error(one, answer.failure, parts))
            else:
                scores.append(self.options.score_of(*answer.value, parts))
        return scores

    async def _one(self, connection: Connection, problem: Problem, text: str) -> Reply[tuple[int, str]]:
        low, high = self.options.lowest, self.options.highest
        messages = prompt.rubric_messages(self._case(problem), text, low, high)
        return await self._ask(connection, messages, "grade", range(low, high + 1))

    async def _compared(self, connection: Connection, group: Sequence[Trajectory]) -> list[Score]:
        ids = {one.problem.id for one in group}
        if len(ids) > 1:
            raise RewardError(f"reward judge: pairwise compares answers to one problem; found those to {sorted(ids)}")
        if len(group) == 1:
            return [_error(group[0], "pairwise has nothing to compare it with; raise rollout.num_generations")]
        texts = [self._text(one) for one in group]
        pairs = list(combinations(dict.fromkeys(texts), 2))
        found = await together(self._compare(connection, group[0].problem, pair) for pair in pairs)
        duels = dict(zip(pairs, found, strict=True))
        usage = sum((duel.usage for duel in found), Usage())
        parts = usage.parts(self.options, 1 / len(group))
        return [self._share_of_wins(one, i, texts, duels, parts) for i, one in enumerate(group)]

    def _share_of_wins(
        self,
        one: Trajectory,
        place: int,
        texts: Sequence[str],
        duels: Mapping[Pair, Duel],
        parts: Mapping[str, float | None],
    ) -> Score:
        mine = texts[place]
        others = [text for i, text in enumerate(texts) if i != place]
        met = [duels.get((mine, text)) or duels.get((text, mine)) for text in others]
        failures = [duel.failure for duel in met if duel is not None and duel.points is None]
        if failures:
            return _error(one, f"{len(failures)} of {len(others)} comparisons not judged; {failures[0]}", parts)
        points = [
            0.5 if duel is None or duel.points is None else duel.points if (mine, text) in duels else 1 - duel.points
            for duel, text in zip(met, others, strict=True)
        ]
        swapped = [duel is not None and duel.disagreed for duel in met]
        shares = {"ties": points.count(0.5) / len(points), "disagreements": sum(swapped) / len(points)}
        wins, lost = points.count(1.0), points.count(0.0)
        reason = f"{wins} won, {points.count(0.5)} tied, {lost} lost"
        return Score(sum(points) / len(points), None, {**shares, **parts}, reason=reason)

    async def _compare(self, connection: Connection, problem: Problem, pair: Pair) -> Duel:
        case = self._case(problem)
        asked = [prompt.pair_messages(case, *order) for order in (pair, pair[::-1])]
        one, other = await together(self._ask(connection, each, "better", prompt.CHOICES) for each in asked)
        usage = one.usage + other.usage
        if one.value is None or other.value is None:
            return Duel(None, False, usage, one.failure or other.failure)
        points, swapped = POINTS[one.value[0]], 1 - POINTS[other.value[0]]
        return Duel(points if points == swapped else 0.5, points != swapped, usage)

    async def _ask(
        self, connection: Connection, messages: Sequence[Mapping[str, Any]], name: str, values: Sequence[Any]
    ) -> Reply[tuple[Any, str]]:
        explain = self.options.explain
        schema = prompt.schema(name, values, explain) if self.options.structured else None
        return await connection.ask(messages, prompt.reader(name, values, explain), schema)

    def _text(self, one: Trajectory) -> str:
        """The text that is judged of an episode, or its picture as a data URI."""
        if self.options.reads == "picture":
            return pictures.data_uri(pictures.last_picture(one) or "")
        return one.text if self.options.reads == "all" else one.text.rpartition("</think>")[2].strip()

    def _case(self, problem: Problem) -> prompt.Case:
        column = self.options.rubric_column
        rubric = self.options.rubric if column is None else str(problem.info[column])
        by_picture = self.options.reads == "picture"
        seen = [pictures.data_uri(image) for image in images_of(problem.messages)]
        return prompt.Case(problem, rubric, self.options.reference, self.options.explain, by_picture, seen)

    def _unfit(self, one: Trajectory) -> str:
        """Reason why an episode cannot be judged: no rubric, no reference, no picture; "" where it can."""
        problem, column = one.problem, self.options.rubric_column
        shown = list(images_of(problem.messages))
        if self.options.reads == "picture":
            picture = pictures.last_picture(one)
            if picture is None:
                return "the episode shows no picture"
            shown.append(picture)
        try:
            for picture in shown:
                pictures.opened(picture)
        except DataError as error:
            return str(error)
        if column is not None and not (isinstance(problem.info.get(column), str) and problem.info[column].strip()):
            return f"no text in info[{column!r}] to judge by"
        return "no answer to show as the reference" if self.options.reference and not problem.answer.strip() else ""


def _error(one: Trajectory, said: str, parts: Mapping[str, float | None] | None = None) -> Score:
    return Score(None, "error", parts or {}, reason=f"problem {one.problem.id}: judge: {said}")


plugin = Judge
