"""Trajectories as plain values for files and sockets, and back; their token columns as arrays."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from llmrl.types import Completion, Problem, Ragged, Score, Trajectory, Turn


def to_tree(trajectory: Trajectory) -> dict[str, Any]:
    """Make mappings by field name, without the problem, which many share. No column is copied."""
    tree = by_field(trajectory)
    del tree["problem"]
    tree["turns"] = [by_field(turn) | {"completion": by_field(turn.completion)} for turn in trajectory.turns]
    tree["score"] = None if trajectory.score is None else by_field(trajectory.score)
    return tree


def from_tree(tree: Mapping[str, Any], problem: Problem) -> Trajectory:
    """The trajectory that `to_tree` took apart, also where JSON has made lists of tuples and a mapping of a `Ragged`.

    Raises:
        TypeError: a field is missing or unknown.
    """
    turns = [Turn(**_given(Turn, turn) | {"completion": _completion(turn["completion"])}) for turn in tree["turns"]]
    score = None if tree.get("score") is None else Score(**tree["score"])
    return Trajectory(**_given(Trajectory, tree) | {"problem": problem, "turns": turns, "score": score})


def by_field(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as they are."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def compact(trajectory: Trajectory) -> Trajectory:
    """The trajectory with its token columns as arrays, where they may be lists.

    Raises:
        OverflowError: an id that has no 32 bits.
    """
    return replace(trajectory, turns=[_compact(turn) for turn in trajectory.turns])


def share_prompts(group: Sequence[Trajectory]) -> list[Trajectory]:
    """The group with a single object for first prompts that are equal to that of its first episode."""
    first = next((trajectory.turns[0].prompt_ids for trajectory in group if trajectory.turns), ())
    return [
        replace(episode, turns=[replace(episode.turns[0], prompt_ids=first), *episode.turns[1:]])
        if episode.turns and episode.turns[0].prompt_ids == first
        else episode
        for episode in group
    ]


def _given(cls: type, tree: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a tree, without empty lists for which an empty tuple is the default."""
    defaults = {field.name: field.default for field in fields(cls)}
    return {name: value for name, value in tree.items() if value != [] or defaults.get(name) != ()}


def _completion(tree: Mapping[str, Any]) -> Completion:
    support = tree.get("support_ids")
    return Completion(**{**tree, "support_ids": Ragged(**support) if isinstance(support, Mapping) else support})


def _compact(turn: Turn) -> Turn:
    completion = turn.completion
    arrays = replace(
        completion,
        token_ids=array("i", completion.token_ids),
        logprobs=array("f", completion.logprobs),
        versions=None if completion.versions is None else array("i", completion.versions),
        support_ids=None if completion.support_ids is None else Ragged.of(completion.support_ids),
    )
    return replace(turn, prompt_ids=array("i", turn.prompt_ids), completion=arrays)
