"""Wishes for fields of a page, as goals have them: the action that brings each closer, and if it is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrl.browser.actions import Action
from llmrl.browser.elements import Element


class NoPlanError(ValueError):
    """The page does not look as the plan of its task expects."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A field as the goal wants it. `action` brings it closer; `is_met` says that it is so already."""

    action: Action
    is_met: bool
    field: str = ""  # the same in every plan of an episode, whatever is on the page


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """Wishes in the order in which a person fills them, and the last action."""

    wishes: Sequence[Wish]
    finish: Action

    @property
    def reached(self) -> float:
        """Share of the wishes that are met; 0 where there are none."""
        return sum(wish.is_met for wish in self.wishes) / len(self.wishes) if self.wishes else 0.0

    def next(self) -> Action:
        """The next action: for the first wish that is not met, else the last."""
        return next((wish.action for wish in self.wishes if not wish.is_met), self.finish)


def find(elements: Sequence[Element], tags: str, text: str | None = None, id: str | None = None) -> Element:
    """The first element of one of these tags with this text or this id.

    Raises:
        NoPlanError: there is none.
    """
    for element in elements:
        fits = text in (None, element.text) and id in (None, element.id)
        if fits and element.ref is not None and (not tags or element.tag in tags.split()):
            return element
    raise NoPlanError(f"no {tags or 'element'} {text or ''} {id or ''} on the page")


def click(element: Element) -> Action:
    """Click an element."""
    return Action("click", element.ref)


def filled(element: Element, text: str) -> Wish:
    """A field that holds this text."""
    action = Action("clear", element.ref) if element.value else Action("type", element.ref, text)
    return Wish(action, element.value == text, element.id)


def ticked(element: Element, is_on: bool = True) -> Wish:
    """A box that is checked, or is not."""
    return Wish(click(element), ("checked" in element.flags) == is_on, element.id)


def chosen(element: Element, option: str) -> Wish:
    """A list in which this option is selected."""
    return Wish(Action("select", element.ref, option), element.value == option, element.id)
