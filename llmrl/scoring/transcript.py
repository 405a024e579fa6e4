"""Episodes as chats of the agent that the policy spoke for last: rewards that read messages see no other's."""

from __future__ import annotations

from collections.abc import Sequence

from llmrl.types import Message, Trajectory, Turn


def opening(episode: Trajectory) -> Sequence[Message]:
    """Messages before the first turn: what the environment showed, or the problem's where it ended before that."""
    return episode.problem.messages if episode.shown is None else episode.shown


def before_last(episode: Trajectory) -> list[Message]:
    """Messages that the agent saw before its last text, its own earlier texts among them."""
    first = not episode.turns or episode.turns[0].agent == _agent(episode)
    messages: list[Message] = list(opening(episode)) if first else []
    for turn, said, reply in _heard(episode):
        if turn is episode.last:
            break
        messages = list(reply) if turn.whole and reply else [*messages, *said, *reply]
    return messages


def dialogue(episode: Trajectory) -> list[Message]:
    """The agent's texts, as the assistant's, and the replies that it was given behind the first of them."""
    messages: list[Message] = []
    for _, said, reply in _heard(episode):
        messages += [*said, *(reply if messages or said else ())]
    return messages


def _agent(episode: Trajectory) -> str:
    return "" if episode.last is None else episode.last.agent


def _heard(episode: Trajectory) -> list[tuple[Turn, Sequence[Message], Sequence[Message]]]:
    """Each turn, with the agent's text in it, and the reply if it was for the agent; the last is for who spoke."""
    agent = _agent(episode)
    listeners = [turn.agent for turn in [*episode.turns[1:], *episode.turns[-1:]]]
    return [
        (
            turn,
            [{"role": "assistant", "content": turn.text}] if turn.agent == agent else [],
            turn.reply if listener == agent else [],
        )
        for turn, listener in zip(episode.turns, listeners, strict=True)
    ]
