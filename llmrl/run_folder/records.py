"""Typed lines of a run's two logs: a step in `metrics.jsonl`, an episode in `rollouts.jsonl`.

The keys of both files stand here and nowhere else; docs/run_folder.md describes them. `writer` writes records, `reader`
reads them.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, get_args

from llmrl.run_folder.token_numbers import TurnNumbers, from_turn, short_floats
from llmrl.types import POLICY, Completion, Finish, Problem, Score, Semantics, Status, Trajectory, Turn, Verdict

METRICS, ROLLOUTS = "metrics.jsonl", "rollouts.jsonl"
REPLAYS = "replays"  # folder of steps that `llmrl replay --view` has taken again
STEP = re.compile(rb'\{"step":\s*(\d+)')  # how each line of both begins
NUMBER = (int, float)


def file_name(benchmark: str) -> str:
    """A benchmark's name as it stands in files and results, where `:` becomes a full stop."""
    return re.sub(r"[^\w.-]+", ".", benchmark)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """The metrics of a step: `{"step": 3, "reward": 0.5, ...}`."""

    step: int  # from 0
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The record as a line holds it."""
        return {"step": self.step, **self.metrics}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """The record of a line; raises KeyError or TypeError where it is none."""
        return cls(step=_get(line, "step", int), metrics={name: line[name] for name in line if name != "step"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRecord:
    """An episode, the step that it was generated for, and the credit that it got.

    With its tokens, the trajectory is the one that was generated, bit for bit, but for three things: `support_ids` of
    its completions and `info` of its problem are not logged, and log-probabilities are float32. Without its tokens, the
    columns of its turns are empty, and its score has no `token_rewards`.
    """

    step: int  # from 0
    trajectory: Trajectory
    tokens: int  # that the policy chose, over all turns
    advantage: float = 0.0  # of all its tokens, the one farthest from 0; 0.0 where nothing was learned from it
    audit: Score | None = None  # by the gold reward: value, verdict and reason
    token_numbers: Sequence[TurnNumbers] = ()  # of each turn; () where nothing is known of any

    @property
    def has_tokens(self) -> bool:
        """True where the ids that the policy chose were logged."""
        return self.tokens == sum(len(turn.completion.token_ids) for turn in self.trajectory.turns)

    def to_json(self, *, with_tokens: bool = True) -> dict[str, Any]:
        """The record as a line holds it. Defaults (no tools, a prompt shown as it is) are left out."""
        played, score = self.trajectory, self.trajectory.score
        turns = played.turns
        reason = score.reason if score else played.reason
        line: dict[str, Any] = {
            "step": self.step,
            "problem": played.problem.id,
            "group": played.group,
            "episode": played.episode,
            "status": played.status,
            "prompt": _messages(played.problem.messages),
            "turns": [
                _turn_to_json(turn, turns[number - 1] if number else None, with_tokens)
                | (dict(self.token_numbers[number]) if with_tokens and self.token_numbers else {})
                for number, turn in enumerate(turns)
            ],
            "tokens": self.tokens,
            "truncated": played.truncated,
            "version": played.version,
            "reward": played.earned,
            "verdict": score.verdict if score else None,
            "parts": dict(score.parts) if score else {},
            "reason": reason,
            "advantage": self.advantage,
        }
        if score is not None:
            line |= _score_to_json(score, with_tokens)
        if played.problem.answer:
            line["reference"] = played.problem.answer
        if played.shown is None or list(played.shown) != list(played.problem.messages):
            line["shown"] = None if played.shown is None else _messages(played.shown)
        if played.tools:
            line["tools"] = [dict(tool) for tool in played.tools]
        if played.verdict is not None or played.metrics:
            line["environment"] = {"verdict": played.verdict, "metrics": dict(played.metrics)}
        if played.reason != _default_reason(played.status, reason):
            line["status_reason"] = played.reason
        if self.audit is not None:
            line["audit"] = {"value": self.audit.value, "verdict": self.audit.verdict, "reason": self.audit.reason}
        return line

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """The record of a line; raises KeyError, TypeError or ValueError where it is none.

        A line of version 0.1.0, which has no tokens, is one too.
        """
        turns: list[Turn] = []
        numbers: list[TurnNumbers] = []
        for turn in _get(line, "turns", list):
            turns.append(_turn_from_json(turn, turns[-1] if turns else None, line["version"]))
            numbers.append(from_turn(turn, len(turns[-1].completion.token_ids)))
        if turns and line["truncated"] and "finish" not in line["turns"][-1]:  # of version 0.1.0
            turns[-1] = replace(turns[-1], completion=replace(turns[-1].completion, finish="length"))
        status, reason, prompt = _word(line, "status", Status), line["reason"], _get(line, "prompt", list)
        environment = line.get("environment", {})
        trajectory = Trajectory(
            problem=Problem(id=_get(line, "problem", str), messages=prompt, answer=line.get("reference", "")),
            turns=turns,
            status=status,
            reason=line.get("status_reason", _default_reason(status, reason)),
            score=_score_from_json(line),
            group=_get(line, "group", str),
            episode=_get(line, "episode", int),
            shown=line.get("shown", prompt),
            tools=line.get("tools", ()),
            verdict=environment.get("verdict"),
            metrics=environment.get("metrics", {}),
        )
        audit = line.get("audit")
        return cls(
            step=_get(line, "step", int),
            trajectory=trajectory,
            tokens=_get(line, "tokens", int),
            advantage=_get(line, "advantage", NUMBER),
            audit=None if audit is None else Score(audit["value"], audit["verdict"], reason=audit["reason"]),
            token_numbers=numbers if any(numbers) else (),
        )


def step_of(line: bytes) -> int | None:
    """The step of a line of either file; None where it does not begin as both do."""
    match = STEP.match(line)
    return int(match[1]) if match else None


def _turn_to_json(turn: Turn, before: Turn | None, with_tokens: bool) -> dict[str, Any]:
    """A turn; its prompt whole, or only what was added to the turn before."""
    completion = turn.completion
    line = {
        "text": turn.text,
        "reply": _messages(turn.reply),
        "reward": turn.reward,
        "finish": completion.finish,
        "version": completion.version,
    }
    if turn.whole:
        line["whole"] = True
    if turn.agent:
        line["agent"] = turn.agent
    if turn.model != POLICY:
        line["model"] = turn.model
    if turn.snapshot is not None:
        line["snapshot"] = turn.snapshot
    if turn.opened:
        line["opened"] = turn.opened
    if turn.images:
        line["images"] = list(turn.images)
    if completion.semantics != "scaled":
        line["semantics"] = completion.semantics
    if not with_tokens:
        return line
    added = None if before is None else turn.observed_after(before)
    line |= {"prompt_ids": list(turn.prompt_ids)} if added is None else {"observed_ids": list(added)}
    line |= {"token_ids": list(completion.token_ids), "logprobs": short_floats(completion.logprobs)}
    if completion.versions is not None:
        line["versions"] = list(completion.versions)
    return line


def _turn_from_json(line: Mapping[str, Any], before: Turn | None, version: int | None) -> Turn:
    """A turn, behind the one before it; `version` is that of the episode, for lines of 0.1.0."""
    prompt = _ids(line.get("prompt_ids", ()))
    if before is not None and "observed_ids" in line:
        prompt = _ids(before.prompt_ids) + _ids(before.completion.token_ids) + _ids(line["observed_ids"])
    logprobs = array("f", line.get("logprobs", ()))
    completion = Completion(
        token_ids=_ids(line.get("token_ids", ())),
        logprobs=logprobs,
        finish=_word(line, "finish", Finish, "stop"),
        version=_get(line, "version", int, version),
        versions=_ids(line["versions"]) if "versions" in line else None,
        semantics=_word(line, "semantics", Semantics, "scaled"),
    )
    if len(completion.token_ids) != len(logprobs):
        raise ValueError(f"a turn has {len(completion.token_ids)} token_ids and {len(logprobs)} logprobs")
    return Turn(
        prompt_ids=prompt,
        completion=completion,
        text=_get(line, "text", str),
        reply=_get(line, "reply", list),
        reward=_get(line, "reward", NUMBER),
        whole=_get(line, "whole", bool, False),
        agent=_get(line, "agent", str, ""),
        opened=_get(line, "opened", str, ""),
        model=_get(line, "model", str, POLICY),
        snapshot=line.get("snapshot"),
        images=tuple(_get(line, "images", list, ())),
    )


def _score_to_json(score: Score, with_tokens: bool) -> dict[str, Any]:
    """Fields of a score besides verdict, parts and reason."""
    line: dict[str, Any] = {"value": score.value}
    if score.answer is not None:
        line["answer"] = score.answer
    dense = {"steps": score.steps, "step_ends": score.step_ends}
    dense |= {"token_rewards": score.token_rewards} if with_tokens else {}
    return line | {name: list(numbers) for name, numbers in dense.items() if numbers is not None}


def _score_from_json(line: Mapping[str, Any]) -> Score | None:
    """The score of an episode; None where nobody scored it. In lines of 0.1.0, `reward` is the value."""
    value = _get(line, "value", NUMBER, _get(line, "reward", (*NUMBER, type(None))))
    if "value" not in line and value is None and line["verdict"] is None:
        return None
    return Score(
        value,
        None if line["verdict"] is None else _word(line, "verdict", Verdict),
        line["parts"],
        steps=line.get("steps"),
        step_ends=line.get("step_ends"),
        token_rewards=line.get("token_rewards"),
        reason=line["reason"],
        answer=line.get("answer"),
    )


def _default_reason(status: str, reason: str) -> str:
    """Derive an episode's reason from its score: a broken one has its error as the reason of its score."""
    return reason if status == "error" else ""


def _messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(message) for message in messages]


def _ids(numbers: Sequence[int]) -> array[int]:
    return array("i", numbers)


def _get(line: Mapping[str, Any], key: str, kind: type | tuple[type, ...], *default: Any) -> Any:
    """The value of a key, of the kind that it has; the default where the key is missing and there is one."""
    value = line.get(key, *default) if default else line[key]
    if not isinstance(value, kind) and not (default and value is default[0]):
        raise TypeError(f"{key} is {value!r:.80}")
    return value


def _word(line: Mapping[str, Any], key: str, words: Any, *default: Any) -> Any:
    """Read a word of a literal type."""
    value = line.get(key, *default) if default else line[key]
    if value not in get_args(words):
        raise ValueError(f"{key} is {value!r:.80}; expected {', '.join(get_args(words))}")
    return value
