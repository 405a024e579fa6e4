"""Counts of verification, backtracking, subgoals and backward chaining in an answer, by a language model."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmrl.clients.chat_completions import ChatClient, Connection, PricedChatOptions, Usage
from llmrl.clients.retry import together
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.trl_functions import Timed
from llmrl.types import Score, Trajectory

COUNT = re.compile(r"<count>\s*(\d{1,4})\s*</count>", re.IGNORECASE)
QUESTIONS: Mapping[str, str] = {
    "verification": "How often does the writer compare a result with the target, in so many words or by saying how far "
    "off it is? Example: 'That makes 19, and 19 is not 44.' is one.",
    "backtracking": "How often does the writer give up a line of attempts and begin another that does not use the last "
    "result? Example: 'That leads nowhere. Let me begin with 25 - 3 instead.' is one.",
    "subgoal": "How often does the writer name a value in between that is to be reached first, before going on to the "
    "target? Example: 'If I can make 22, doubling it is enough.' is one.",
    "backward_chaining": "How often does the writer reason from the target back to the given numbers? Example: 'Since "
    "44 is 2 times 22, the other numbers must make 22.' is one.",
}
"""Version 1. A count is comparable with counts by the same judge model and the same version only."""
FRAME = (
    "Below are a problem and somebody's reasoning about it. Read the reasoning and count one kind of behaviour; do not "
    "solve the problem, and do not judge whether the reasoning is right.\n\n[Problem]\n{problem}\n\n"
    "[Reasoning]\n{text}\n\n[Question]\n{question}\nEnd with the number alone between tags, such as <count>0</count>."
)


@dataclass(frozen=True, kw_only=True)
class BehaviourJudge(PricedChatOptions):
    """Counts of behaviours as `parts`, and never a value: weight 0 in a mix logs `rewards/behaviour_judge/<name>`.

    Four questions per answer, one for each behaviour, to any server with OpenAI's chat completions. A reply without a
    count, or no reply after all tries, gives None, which no mean counts; `unanswered` is the number of such among the
    four; requests, tokens and cost are told as by `judge`. With any weight but 0 no answer can be scored: rewarding
    counts would teach the words without the behaviour.

    Raises:
        RewardError: the server refuses every request, as for a wrong key or an unknown model.
    Source: behaviours and measure of Gandhi et al. 2025 (arXiv 2503.01307); the questions are our own.
    """

    share: float = 1.0  # of the answers that are judged, chosen by problem and episode; the others have no counts

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share {self.share}: expected above 0, 1 at most")

    def as_group_reward(self, pool: GradingPool | None = None) -> BehaviourCounts:
        """Make the group reward. Its time limits are its own: a pool's are for work that keeps a processor busy."""
        return BehaviourCounts("behaviour_judge", options=self, chat=ChatClient("behaviour_judge", self))

    def chosen(self, one: Trajectory) -> bool:
        """Decide by a hash whether this answer is judged."""
        digest = hashlib.blake2b(f"{one.group}/{one.problem.id}/{one.episode}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.share * 2**64


@dataclass
class BehaviourCounts(Timed):
    """Asks about all chosen answers of a group at once, as far as the bounds of the judge allow."""

    options: BehaviourJudge = field(kw_only=True)
    chat: ChatClient = field(kw_only=True)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        chosen = [one for one in group if self.options.chosen(one)]
        start = time.monotonic()
        scores: list[Score] = []
        if chosen:
            async with self.chat.connected() as connection:
                scores = await together(self._score(connection, one) for one in chosen)
            self.seconds += [(time.monotonic() - start) / len(chosen)] * len(chosen)
        left = Score(None, reason="not among the answers that are judged")
        counts = iter(scores)
        return [next(counts) if self.options.chosen(one) else left for one in group]

    async def _score(self, connection: Connection, one: Trajectory) -> Score:
        problem = "\n".join(str(message.get("content", "")) for message in one.problem.messages)
        prompts = [FRAME.format(problem=problem, text=one.text, question=question) for question in QUESTIONS.values()]
        replies = await together(connection.ask([{"role": "user", "content": prompt}], counted) for prompt in prompts)
        found = {name: reply.value for name, reply in zip(QUESTIONS, replies, strict=True)}
        missing = [name for name, number in found.items() if number is None]
        why = "; ".join(dict.fromkeys(reply.failure for reply in replies if reply.failure))
        reason = f"no count of {', '.join(missing)}; {why}" if missing else "counted, never paid"
        usage = sum((reply.usage for reply in replies), Usage())
        parts = found | {"unanswered": float(len(missing))} | usage.parts(self.options)
        return Score(None, parts=parts, reason=reason)


def counted(reply: str) -> int:
    """Read the number in the last pair of count tags; a ValueError where there is none."""
    number = count(reply)
    if number is None:
        raise ValueError("no count")
    return number


def count(reply: str) -> int | None:
    """Read the number in the last pair of count tags; None where there is none, which is not 0."""
    found = COUNT.findall(reply)
    return int(found[-1]) if found else None


plugin = BehaviourJudge
