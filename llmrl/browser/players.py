"""Scripted players of web tasks: by a plan, and by chance."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from llmrl.browser.actions import WEBARENA, Action, Grammar
from llmrl.browser.elements import Element
from llmrl.browser.episode import WebEpisode
from llmrl.browser.miniwob.plans import plan
from llmrl.browser.miniwob.task import MiniWobTask
from llmrl.browser.shop.oracle import next_action
from llmrl.browser.shop.task import ShopTask
from llmrl.browser.wishes import NoPlanError
from llmrl.types import Observation


class Player(Protocol):
    """Chooses an action from what is on the page."""

    def act(self, episode: WebEpisode, elements: Sequence[Element]) -> Action: ...


class Oracle:
    """Follows the plan of a task; raises NoPlanError where there is none."""

    def act(self, episode: WebEpisode, elements: Sequence[Element]) -> Action:
        task = episode.task
        if isinstance(task, ShopTask):
            return next_action(task, elements)
        assert isinstance(task, MiniWobTask)
        return plan(task.name, episode.goal, elements).next()


class RandomPlayer:
    """Clicks and types at random; words come from the goal."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def act(self, episode: WebEpisode, elements: Sequence[Element]) -> Action:
        """A click on any element, or a word of the goal into a field."""
        element = self._chance.choice([element for element in elements if element.ref is not None] or [_NOTHING])
        if element.options:
            return Action("select", element.ref, self._chance.choice(element.options))
        if element.value is not None and self._chance.random() < 0.5:
            return Action("type", element.ref, self._chance.choice(episode.goal.split()).strip('".,'))
        return Action("click", element.ref)


_NOTHING = Element(0, "page")


def written(action: Action, grammar: Grammar) -> str:
    """An action as a policy writes it."""
    return _webarena(action) if grammar == "webarena" else _call(action)


def _call(action: Action) -> str:
    given = [action.ref] if action.ref is not None else []
    texts = [action.text] if action.text or action.name in ("stop", "type", "select") else []
    to = [action.to] if action.to is not None else []
    return f"{action.name}({', '.join(map(repr, [*given, *texts, *to]))})"


_NAMES: Mapping[str, str] = {ours: theirs for theirs, ours in WEBARENA.items()} | {"type": "Type", "clear": "Type"}


def _webarena(action: Action) -> str:
    if action.name == "stop":
        return f"exit(message={action.text!r})"
    if action.name in ("back", "forward"):
        return "go_backward()" if action.name == "back" else "go_forward()"
    if action.name == "scroll":
        return f'do(action="Scroll {action.text.capitalize()}")'
    if action.name not in _NAMES or (action.name == "press" and action.text != "Enter"):
        raise NoPlanError(f"WebArena-Lite has no action for {action}")
    needs_text = action.name in ("type", "clear", "retype", "search", "select")
    words = [f'action="{_NAMES[action.name]}"'] + ([f"argument={action.text!r}"] if needs_text else [])
    words += [f'element="{action.ref}"'] if action.ref is not None else []
    return f"do({', '.join(words)})"


async def play(episode: WebEpisode, player: Player) -> list[Observation]:
    """Play an episode to its end; returns what the environment answered, the last with its verdict."""
    answers = [await episode.reset()]
    while not answers[-1].done:
        action = player.act(episode, await episode.look())
        text = written(action, episode.options.actions)
        answers.append(await episode.step({"role": "assistant", "content": text}))
    return answers
