"""Middle states of episodes: where one can be gone on from, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrl.errors import RecipeError
from llmrl.types import Message, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class MiddleState:
    """State of an episode behind some of its turns: the environment's, and the prompt that was fed there."""

    snapshot: str  # which the environment's `restore` takes
    prompt_ids: tuple[int, ...]  # fed to the engine in that state: nothing that was sampled is encoded again
    messages: Sequence[Message] = field(hash=False)  # the conversation that they spell
    reply: Sequence[Message] = field(hash=False)  # what the environment showed last, and shows again
    tools: Sequence[Mapping[str, Any]] = field(default=(), hash=False)
    turns: int  # that lie before it


def middle_states(episode: Trajectory) -> Iterator[MiddleState]:
    """The states between the turns of an episode, in their order; those alone of which the environment left a snapshot.

    Raises:
        RecipeError: several agents spoke in it.
    """
    if any(turn.agent for turn in episode.turns):
        raise RecipeError(
            f"problem {episode.problem.id}: several agents speak in its episodes, and a state in their midst has a "
            "prompt of each; expected source: {name: online}"
        )
    past = list(episode.shown or ())
    for number, (turn, after) in enumerate(zip(episode.turns, episode.turns[1:], strict=False), 1):
        said: Message = {"role": "assistant", "content": turn.text}
        past = list(turn.reply) if turn.whole else [*past, said, *turn.reply]
        if turn.snapshot is not None and len(after.prompt_ids):  # a log may be without tokens
            yield MiddleState(
                snapshot=turn.snapshot,
                prompt_ids=tuple(after.prompt_ids),
                messages=past,
                reply=list(turn.reply),
                tools=tuple(episode.tools),
                turns=number,
            )
