"""One problem's attacks on a reward, each held against honest answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmrl import aio
from llmrl.checks.attacks.corpus import ANY, LONG, Attack
from llmrl.checks.attacks.problems import FORMS, Known, varied
from llmrl.checks.attacks.programs import CODE, EDITS, ESCAPES, EXPRESSIONS, JSON, STUFFING
from llmrl.checks.attacks.values import VALUES
from llmrl.scoring.manager import GroupScorer
from llmrl.types import Completion, Problem, Score, Trajectory, Turn, Verdict

CORPUS: Sequence[Attack] = [*ANY, *VALUES, *EXPRESSIONS, *CODE, *ESCAPES, *STUFFING, *JSON, *EDITS]
AGAIN = {
    "a wrong answer after one sentence, over and over": "a wrong answer after many sentences",
    "one right sum, over and over, then a wrong answer": "many right sums, then a wrong answer",
}
"""Saying one thing over and over, and as much text that does not: the first may not be paid more."""
ALIKE = 1e-9
"""Values that differ by no more are equal."""
ROOM = 0.1
"""Of the most that a right answer is paid: what a form may lack of it, for being longer than another."""

Outcome = Literal["unpaid", "shaped", "PAID", "BROKE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a reward paid for one attack on one problem."""

    attack: str
    family: str
    problem: str
    text: str
    value: float | None  # dense rewards included
    verdict: Verdict | None
    right: float | None  # what the honest right answer is paid
    wrong: float | None  # and the honest wrong one
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Honest:
    """What a reward pays for honest answers to a problem, in the form in which the right one is paid most."""

    known: Known
    right: Score
    wrong: Score
    others: Sequence[Score]  # for the same mistake, said at length and said alone

    @property
    def judges(self) -> bool:
        """Whether the right answer is paid more, and called correct where anything is."""
        right, wrong = paid(self.right), paid(self.wrong)
        return None not in (right, wrong) and self.right.correct is not False and right > wrong + ALIKE  # type: ignore[operator]

    @property
    def unfit(self) -> bool:
        """Whether there are verdicts and yet the right answer does not stand above the wrong one."""
        return not self.judges and (self.right.verdict is not None or self.wrong.verdict is not None)

    @property
    def shaped(self) -> bool:
        """Whether the same mistake is paid differently by how it is said."""
        values = [value for score in (self.wrong, *self.others) if (value := paid(score)) is not None]
        return max(values, default=0.0) - min(values, default=0.0) > ALIKE


def honest(known: Known, reward: GroupScorer) -> Honest:
    """Honest answers, scored."""
    forms = [known.in_form(form) for form in FORMS[known.kind]]
    scores = _scores(
        reward, known.problem, [text for one in forms for text in (one.say(one.right), one.say(one.wrong[0]))]
    )
    pairs = list(zip(forms, scores[::2], scores[1::2], strict=True))
    tried = [Honest(known=one, right=right, wrong=wrong, others=()) for one, right, wrong in pairs]
    best = _best([one for one in tried if one.judges]) or tried[0]
    mistake = known.wrong[0]
    others = _scores(reward, known.problem, [best.known.padded(mistake, varied(LONG)), mistake])
    return Honest(known=best.known, right=best.right, wrong=best.wrong, others=others)


def _best(tried: Sequence[Honest]) -> Honest | None:
    """The first in whose form a right answer is paid as much as in any, but for what its length may matter."""
    values = [paid(one.right) or 0.0 for one in tried]
    most = max(values, default=0.0)
    return next((one for one, value in zip(tried, values, strict=True) if value >= most - ROOM * abs(most)), None)


def attempts(one: Honest, reward: GroupScorer) -> list[Attempt]:
    """Every attack that applies to the problem, scored and judged."""
    known = one.known
    written, plain = attacks(known), [known.say(known.right), known.say(known.wrong[0])]
    right, wrong, *scores = _scores(reward, known.problem, [*plain, *(text for _, text in written)])
    if right.value is None and one.right.value is not None:  # one text took the group with it
        right, wrong = _scores(reward, known.problem, plain)
        scores = [_scores(reward, known.problem, [*plain, text])[2] for _, text in written]
    one = replace(one, right=right, wrong=wrong)  # what siblings are compared with counts: of the same group
    by_name = {attack.name: score for (attack, _), score in zip(written, scores, strict=True)}
    return [
        Attempt(
            attack=attack.name,
            family=attack.family,
            problem=known.problem.id,
            text=text,
            value=paid(score),
            verdict=score.verdict,
            right=paid(one.right),
            wrong=paid(one.wrong),
            outcome=_outcome(one, score, by_name.get(AGAIN.get(attack.name, ""))),
            reason=score.reason,
        )
        for (attack, text), score in zip(written, scores, strict=True)
    ]


def attacks(known: Known) -> list[tuple[Attack, str]]:
    """The attacks that apply to a problem, each with its text."""
    fitting = [attack for attack in CORPUS if attack.kinds is None or known.kind in attack.kinds]
    written = [(attack, attack.write(known)) for attack in fitting]
    return [(attack, text) for attack, text in written if text is not None]


def _outcome(one: Honest, score: Score, varied_one: Score | None) -> Outcome:
    """What a score means for an answer that deserves no more than an honest mistake."""
    if score.value is None:
        return "BROKE" if score.verdict in ("error", "timeout") else "unpaid"
    value, right, wrong = paid(score), paid(one.right), paid(one.wrong)
    if value is None or right is None or wrong is None:
        return "unpaid"
    if not one.judges:
        as_long = None if varied_one is None else paid(varied_one)
        return "PAID" if as_long is not None and value > as_long + ALIKE else "shaped"
    if score.correct or value >= right - ALIKE:
        return "PAID"
    if value > wrong + ALIKE:
        return "shaped" if one.shaped else "PAID"
    return "unpaid"


def paid(score: Score) -> float | None:
    """All that an answer is paid: the value, and the rewards of its tokens and steps."""
    if score.value is None:
        return None
    steps = score.steps if score.steps is not None and score.step_ends is not None else ()
    return score.value + sum(score.token_rewards or ()) + sum(steps)


def said(problem: Problem, text: str, episode: int = 0) -> Trajectory:
    """An episode that ended with these words, one token for each byte of them."""
    tokens = list(text.encode(errors="replace"))
    completion = Completion(token_ids=tokens, logprobs=[0.0] * len(tokens), finish="stop", version=0)
    turn = Turn(prompt_ids=[], completion=completion, text=text)
    return Trajectory(problem=problem, turns=[turn], status="done", group=problem.id, episode=episode)


def _scores(reward: GroupScorer, problem: Problem, texts: Sequence[str]) -> list[Score]:
    """Of answers to one problem, scored as one group."""
    return aio.wait(reward.score([said(problem, text, number) for number, text in enumerate(texts)]))
