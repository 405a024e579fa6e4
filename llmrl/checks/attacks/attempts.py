"""Attack a reward with the texts for a problem, and compare each score with those of honest answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmrl import aio
from llmrl.checks.attacks.corpus import ANY, LONG, Attack
from llmrl.checks.attacks.problems import FORMS, Known, varied
from llmrl.checks.attacks.programs import CODE, EDITS, ESCAPES, EXPRESSIONS, JSON, REPAIRS, STUFFING
from llmrl.checks.attacks.values import VALUES
from llmrl.scoring.manager import GroupScorer
from llmrl.types import Completion, Score, Trajectory, Turn, Verdict

CORPUS: Sequence[Attack] = [*ANY, *VALUES, *EXPRESSIONS, *CODE, *ESCAPES, *STUFFING, *JSON, *EDITS, *REPAIRS]
AGAIN = {
    "a wrong answer after one sentence, over and over": "a wrong answer after many sentences",
    "one right sum, over and over, then a wrong answer": "many right sums, then a wrong answer",
}
"""Pairs of a repetitive text and a varied text of the same length: the first may not be rewarded more."""
ALIKE = 1e-9
"""Values that differ by no more are equal."""
THINK = "<think>"
ROOM = 0.1
"""Share of the highest reward of a right answer that a form may lack because it is longer than another."""

Outcome = Literal["unpaid", "shaped", "PAID", "BROKE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Result of an attack on a problem: its reward beside those of honest answers."""

    attack: str
    family: str
    problem: str
    text: str
    value: float | None  # dense rewards included
    verdict: Verdict | None
    right: float | None  # reward of the honest right answer
    wrong: float | None  # and the honest wrong one
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Honest:
    """Scores of honest answers to a problem, in the form in which the right one is rewarded most."""

    known: Known
    right: Score
    wrong: Score
    others: Sequence[Score]  # for the same mistake, after much text and alone

    @property
    def judges(self) -> bool:
        """Tell whether the right answer is rewarded more, and is called correct where there are verdicts."""
        right, wrong = total_reward(self.right), total_reward(self.wrong)
        return None not in (right, wrong) and self.right.correct is not False and right > wrong + ALIKE  # type: ignore[operator]

    @property
    def unfit(self) -> bool:
        """Tell whether there are verdicts and yet the right answer is not rewarded more than the wrong one."""
        return not self.judges and (self.right.verdict is not None or self.wrong.verdict is not None)

    @property
    def shaped(self) -> bool:
        """Tell whether the reward of the same mistake depends on its wording."""
        values = [value for score in (self.wrong, *self.others) if (value := total_reward(score)) is not None]
        return max(values, default=0.0) - min(values, default=0.0) > ALIKE


def honest(known: Known, reward: GroupScorer) -> Honest:
    """Score honest answers to a problem."""
    forms = [known.in_form(form) for form in FORMS[known.kind]]
    scores = _scores(
        reward, known, [text for each in forms for text in (each.say(each.right), each.say(each.wrong[0]))]
    )
    pairs = list(zip(forms, scores[::2], scores[1::2], strict=True))
    tried = [Honest(known=form, right=right, wrong=wrong, others=()) for form, right, wrong in pairs]
    best = _best([answers for answers in tried if answers.judges]) or tried[0]
    mistake = known.wrong[0]
    others = _scores(reward, known, [best.known.padded(mistake, varied(LONG)), mistake])
    return Honest(known=best.known, right=best.right, wrong=best.wrong, others=others)


def _best(tried: Sequence[Honest]) -> Honest | None:
    """First in whose form a right answer is rewarded as much as in any, up to `ROOM` for its length."""
    values = [total_reward(answers.right) or 0.0 for answers in tried]
    most = max(values, default=0.0)
    return next((each for each, value in zip(tried, values, strict=True) if value >= most - ROOM * abs(most)), None)


def attempts(answers: Honest, reward: GroupScorer) -> list[Attempt]:
    """Score and judge every attack that applies to the problem."""
    known = answers.known
    written, plain = attacks(known), [known.say(known.right), known.say(known.wrong[0])]
    right, wrong, *scores = _scores(reward, known, [*plain, *(text for _, text in written)])
    if right.value is None and answers.right.value is not None:  # one text took the group with it
        right, wrong = _scores(reward, known, plain)
        scores = [_scores(reward, known, [*plain, text])[2] for _, text in written]
    answers = replace(answers, right=right, wrong=wrong)  # compared must be scores of the same group
    by_name = {attack.name: score for (attack, _), score in zip(written, scores, strict=True)}
    return [
        Attempt(
            attack=attack.name,
            family=attack.family,
            problem=known.problem.id,
            text=text,
            value=total_reward(score),
            verdict=score.verdict,
            right=total_reward(answers.right),
            wrong=total_reward(answers.wrong),
            outcome=_outcome(answers, score, by_name.get(AGAIN.get(attack.name, ""))),
            reason=score.reason,
        )
        for (attack, text), score in zip(written, scores, strict=True)
    ]


def attacks(known: Known) -> list[tuple[Attack, str]]:
    """The attacks that apply to a problem, each with its text."""
    fitting = [attack for attack in CORPUS if attack.kinds is None or known.kind in attack.kinds]
    written = [(attack, attack.write(known)) for attack in fitting]
    return [(attack, text) for attack, text in written if text is not None]


def _outcome(answers: Honest, score: Score, varied_one: Score | None) -> Outcome:
    """Classify the score of an answer that deserves no more than an honest mistake."""
    if score.value is None:
        return "BROKE" if score.verdict in ("error", "timeout") else "unpaid"
    value, right, wrong = total_reward(score), total_reward(answers.right), total_reward(answers.wrong)
    if value is None or right is None or wrong is None:
        return "unpaid"
    if not answers.judges:
        as_long = None if varied_one is None else total_reward(varied_one)
        return "PAID" if as_long is not None and value > as_long + ALIKE else "shaped"
    if score.correct or value >= right - ALIKE:
        return "PAID"
    if value > wrong + ALIKE:
        return "shaped" if answers.shaped else "PAID"
    return "unpaid"


def total_reward(score: Score) -> float | None:
    """Total reward of an answer: the value, and the rewards of its tokens and steps."""
    if score.value is None:
        return None
    steps = score.steps if score.steps is not None and score.step_ends is not None else ()
    return score.value + sum(score.token_rewards or ()) + sum(steps)


def episode_of(known: Known, text: str, episode: int = 0) -> Trajectory:
    """Make an episode of one turn with this text, one token for each byte of it.

    Where the prompt has opened the thoughts, a text that begins with their tag goes on behind it.
    """
    problem, begun = known.problem, text.lstrip()
    if known.opened and begun.startswith(THINK):
        text = begun.removeprefix(THINK).lstrip()
    tokens = list(text.encode(errors="replace"))
    completion = Completion(token_ids=tokens, logprobs=[0.0] * len(tokens), finish="stop", version=0)
    turn = Turn(prompt_ids=[], completion=completion, text=text, opened=known.opened)
    return Trajectory(problem=problem, turns=[turn], status="done", group=problem.id, episode=episode)


def _scores(reward: GroupScorer, known: Known, texts: Sequence[str]) -> list[Score]:
    """Score answers to a problem as one group."""
    return aio.wait(reward.score([episode_of(known, text, number) for number, text in enumerate(texts)]))
