"""The values that a step begins with: `Problem -> Trajectory`; `llmrl.samples` follows. Standard library only."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal, overload

Message = Mapping[str, Any]
"""One chat message: `role` (system, user, assistant, tool), `content`, and whatever else the chat template reads."""

Verdict = Literal["correct", "wrong", "unparsable", "truncated", "timeout", "error"]
Status = Literal["done", "cut", "max_turns", "max_tokens", "error"]
"""End of an episode: by the task, by a limit of the environment, of turns or of tokens, or because something broke."""
POLICY = "policy"
"""`Turn.model` of what the run's policy chose; others are `own_policy` of an agent, or opponents, which never learn."""
LIMITS: frozenset[Status] = frozenset({"cut", "max_turns", "max_tokens"})
Finish = Literal["stop", "length", "abort"]
Role = Literal["chosen", "rejected", "mismatched"]
Origin = Literal["fresh", "replay", "proposal"]
"""Origin of a sample: an episode of its step, one of an earlier step, or a turn that no environment has answered."""
Semantics = Literal["scaled", "raw", "renormalised"]


def own_policy(agent: str) -> str:
    """`Turn.model` of an agent that learns with parameters of its own: `policy:second`."""
    return f"{POLICY}:{agent}"


def is_correct(verdict: str | None) -> bool | None:
    """True for `correct`; None where nobody judged: no verdict, or a grader that broke (`timeout`, `error`)."""
    return None if verdict in (None, "timeout", "error") else verdict == "correct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem for the policy to solve."""

    id: str  # stable across runs, unique in its dataset
    messages: Sequence[Message]  # what the policy reads
    answer: str = ""  # the reference, which only verifiers read
    info: Mapping[str, Any] = field(default_factory=dict)  # columns as the data has them: level, subject, tests, ...
    plain: bool = field(default=False, compare=False)  # the data has a text, no chat: TRL's functions get texts, too

    def copied(self) -> Problem:
        """A copy that shares nothing that can be changed, for code of others."""
        return replace(self, messages=deepcopy(list(self.messages)), info=deepcopy(dict(self.info)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling of tokens by an engine. The defaults sample from the policy itself, as on-policy methods assume."""

    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 is all
    min_p: float = 0.0
    max_tokens: int = 1024  # of the completion
    seed: int | None = None  # the same seed, weights and prompt give the same completion
    stop: tuple[str, ...] = ()  # strings that end a completion; their tokens are kept whole

    def __post_init__(self) -> None:
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(f"stop {self.stop!r}: expected a tuple of strings, none of them empty")

    @property
    def semantics(self) -> Semantics:
        """Meaning of an engine's log-probabilities under these settings: see `Completion.semantics`."""
        whole = self.top_p >= 1.0 and self.top_k <= 0 and self.min_p <= 0.0
        return "scaled" if whole else "renormalised"


@dataclass(frozen=True, slots=True)
class Ragged(Sequence[Sequence[int]]):
    """Sets of ids of different sizes in two arrays, where a list of lists would cost an object for each token.

    `Ragged.of([[5, 6], [2]])` holds `ids` 5, 6, 2 and `ends` 2, 3.
    """

    ids: array[int]  # int32, of all sets one behind the other
    ends: array[int]  # int64: set t is ids[ends[t - 1] : ends[t]]

    @classmethod
    def of(cls, sets: Iterable[Sequence[int]]) -> Ragged:
        """The sets in their order."""
        sets, ids = list(sets), array("i")
        for members in sets:
            ids.extend(members)
        return cls(ids, array("q", accumulate(map(len, sets))))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> array[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[array[int]]: ...
    def __getitem__(self, index: int | slice) -> array[int] | list[array[int]]:
        if isinstance(index, slice):
            return [self[t] for t in range(*index.indices(len(self)))]
        t = range(len(self))[index]
        return self.ids[self.ends[t - 1] if t else 0 : self.ends[t]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Tokens that an engine sampled for one prompt. Engines give the columns as arrays: 4 bytes a number, not 40."""

    token_ids: Sequence[int]  # with the end-of-sequence token, which is an action, if one was sampled
    logprobs: Sequence[float]  # natural log-probability of each token; () where nobody recorded them, as in stored data
    finish: Finish  # stop: the model ended it; length: a limit did; abort: the engine did
    version: int  # of the weights that sampled it; of the first token's where `versions` says more
    stopped_by: str | None = None  # the string of `Sampling.stop` that ended it
    versions: Sequence[int] | None = None  # of each token, where weights changed in its midst
    semantics: Semantics = "scaled"
    """The distribution that `logprobs` describe. `scaled`: the whole softmax at the sampling temperature, which is what
    a trainer computes. `raw`: the softmax at temperature 1. `renormalised`: over the tokens that top-p, top-k and min-p
    left, higher than any trainer's value; ratios against it are refused unless `support_ids` say which they were."""
    support_ids: Sequence[Sequence[int]] | None = None
    """For each token, the ids among which it was sampled, it included; None where the engine does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Output of an environment for the policy to read."""

    messages: Sequence[Message] = ()
    tools: Sequence[Mapping[str, Any]] = ()  # JSON schemas, for the chat template
    reward: float = 0.0  # for the message it answers
    agent: str = ""  # which speaks next, where several do: each has a conversation of its own
    rewards: Mapping[str, float] = field(default_factory=dict)  # of other agents, for their last messages
    done: bool = False
    whole: bool = False  # its messages are the whole next prompt, in which a row of its own begins
    cut: bool = False  # with `done`: a limit of the environment ended the episode, not the task itself
    verdict: Verdict | None = None  # with `done`: the environment's judgement of the episode, if it judges
    metrics: Mapping[str, float] = field(default_factory=dict)  # with `done`: numbers of the episode, for the log


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A completion of the policy and the environment's answer to it."""

    prompt_ids: Sequence[int]  # as fed to the engine; siblings of a group share those of their first turn
    completion: Completion
    text: str  # the completion decoded, without special tokens; behind the prefix, where it goes on from one
    reply: Sequence[Message] = ()
    reward: float = 0.0
    whole: bool = False  # the reply is the whole next prompt, for the environment has rewritten the history
    agent: str = ""  # who spoke, where several do; the reply is for the agent of the next turn
    model: str = POLICY  # by which parameters: the policy's, the agent's own, or an opponent's
    snapshot: str | None = None  # of the environment behind the reply, where the source asks for it
    opened: str = ""  # what the prompt began of the answer: `<think>`, where the template opens the thoughts
    images: tuple[str, ...] = ()  # that the prompt shows, in the order of their tokens: paths, or data URIs

    @property
    def trains(self) -> bool:
        """True where a policy of the run chose it, the shared one or the agent's own, which learns from it."""
        return self.model in (POLICY, own_policy(self.agent))

    def observed_after(self, before: Turn) -> Sequence[int] | None:
        """Prompt tokens that the environment added since the turn before.

        None where the prompt does not begin with that turn's prompt and completion, for its history was rewritten.
        """
        start = len(before.prompt_ids)
        end = start + len(before.completion.token_ids)
        kept = list(self.prompt_ids[:start]) == list(before.prompt_ids)
        kept = kept and list(self.prompt_ids[start:end]) == list(before.completion.token_ids)
        return self.prompt_ids[end:] if kept else None


@dataclass(frozen=True, slots=True)
class Score:
    """The judgement of a trajectory by a reward.

    `value` None means that it could not be judged (the grader broke, the reference is unreadable): nothing is learned
    from it, it is left out of every baseline, and it is counted. An answer that cannot be read (`unparsable`) or that a
    limit cut off (`truncated`) is the policy's fault and has a value.
    """

    value: float | None
    verdict: Verdict | None = None  # None: this reward does not judge right and wrong
    parts: Mapping[str, float | None] = field(default_factory=dict)  # named shares, for the log
    steps: Sequence[float] | None = None  # one per reasoning step of the last completion, for process rewards
    step_ends: Sequence[int] | None = None  # where each of them ends, in characters of `Trajectory.text`
    token_rewards: Sequence[float] | None = None  # besides `value`: one per token of the last completion
    reason: str = ""  # for people
    answer: str | None = None  # as the verifier read it from the text; None: it found none, or reads none
    abstained: bool = False  # the reward is of other problems than this: without a value, and a mix leaves it out

    @property
    def correct(self) -> bool | None:
        """True for a right answer, False for any other; None where nobody judged right and wrong."""
        return is_correct(self.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """An episode. A broken one is data: it ends with `status="error"` and its reason, and cancels no sibling."""

    problem: Problem
    turns: Sequence[Turn]
    status: Status
    reason: str = ""
    score: Score | None = None
    group: str = ""  # episodes of one group are compared with each other
    episode: int = 0  # which of its group
    shown: Sequence[Message] | None = None  # by the environment before the first turn; None: it ended before
    tools: Sequence[Mapping[str, Any]] = ()  # that the environment offered with them
    verdict: Verdict | None = None  # the environment's own, for the reward `environment`
    metrics: Mapping[str, float] = field(default_factory=dict)  # the environment's numbers of the episode, for the log

    @property
    def earned(self) -> float | None:
        """The reward of the episode: its score's value and the rewards of the policy's turns; None without a value.

        Rewards of single tokens (`Score.token_rewards`) come on top.
        """
        if self.score is None or self.score.value is None:
            return None
        return self.score.value + sum(turn.reward for turn in self.own)

    @property
    def agents(self) -> Sequence[str]:
        """Agents for which the policy spoke, in the order of their first turns; `[""]` in episodes of a single one."""
        return list(dict.fromkeys(turn.agent for turn in self.own))

    @property
    def version(self) -> int | None:
        """Version of the weights that began the policy's first turn; None where it has none."""
        return next((turn.completion.version for turn in self.own), None)

    def turns_of(self, agent: str) -> Sequence[int]:
        """Numbers of the turns that the policy chose for an agent."""
        return [number for number, turn in enumerate(self.turns) if turn.agent == agent and turn.trains]

    def earned_by(self, agent: str) -> float | None:
        """The reward of an agent: the score's value, which all agents get, and the rewards of its own turns."""
        if self.score is None or self.score.value is None:
            return None
        return self.score.value + sum(self.turns[number].reward for number in self.turns_of(agent))

    @property
    def outcome(self) -> Mapping[str, float | None]:
        """The reward of each agent for which the policy spoke: what one wins from another cancels in their sum."""
        return {agent: self.earned_by(agent) for agent in self.agents} or {"": self.earned}

    @property
    def text(self) -> str:
        """The policy's last completion, which most verifiers read; "" where there is none."""
        return "" if self.last is None else self.last.text

    @property
    def written(self) -> str:
        """The last completion, behind what its prompt began of it, as verifiers read it."""
        return "" if self.last is None else self.last.opened + self.last.text

    @property
    def own(self) -> Sequence[Turn]:
        """Turns of the policies that learn: all but an opponent's."""
        return [turn for turn in self.turns if turn.trains]

    @property
    def last(self) -> Turn | None:
        """The policy's last turn; None where it has none."""
        return next((turn for turn in reversed(self.turns) if turn.trains), None)

    @property
    def truncated(self) -> bool:
        """True if a token limit ended the last completion or the episode."""
        last = self.turns[-1] if self.turns else None
        cut = last is not None and last.trains and last.completion.finish == "length"
        return self.status == "max_tokens" or cut

    @property
    def cut_off(self) -> bool:
        """True if a limit ended the episode, of tokens, of turns or of its environment, and not the task."""
        return self.truncated or self.status in LIMITS
