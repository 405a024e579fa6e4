"""Episodes as questions of success, to which a language model answers YES or NO."""

from __future__ import annotations

from collections.abc import Sequence

from llmrl.datafiles.images import images_of
from llmrl.errors import DataError
from llmrl.scoring.transcript import opening
from llmrl.types import Message, Trajectory

YES, NO = "YES", "NO"
SYSTEM = (
    "An agent was given a task, and acted step by step. Judge by the history of its actions and by the final state "
    "whether the task has been completed. Reply with only YES or NO."
)


def question(episode: Trajectory) -> list[Message]:
    """Messages of a judge: the task, an action a line, and what the environment showed last.

    Raises:
        DataError: task or state have pictures, which the judge would not see.
    """
    shown = [
        *episode.problem.messages,
        *opening(episode),
        *(message for turn in episode.turns for message in turn.reply),
    ]
    if images := images_of(shown):
        raise DataError(
            f"problem {episode.problem.id}: {len(images)} pictures, and the judge of success reads texts alone"
        )
    texts = [turn.text.replace("\n", "; ") for turn in episode.own]
    actions = "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
    task = _last_of_user(episode.problem.messages)
    text = f"Task: {task}\n\nActions:\n{actions}\n\nFinal state:\n{_final(episode)}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def _final(episode: Trajectory) -> str:
    """The last text that the environment showed, before the first action where it never replied."""
    replies = [turn.reply for turn in episode.turns if turn.reply]
    return _last_of_user(replies[-1] if replies else opening(episode))


def _last_of_user(messages: Sequence[Message]) -> str:
    return next((str(m["content"]) for m in reversed(messages) if m["role"] in ("user", "tool")), "")
