"""Plans for tasks of MiniWoB++: what each field must hold, and the click that hands it in.

A plan is made of what a policy reads alone, goal and elements, so that a scripted player that follows it shows that the
observation suffices. It also says which share of the goal is reached, and what a warm start may do beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from llmrl.browser.elements import Element
from llmrl.browser.wishes import FieldPlan, NoPlanError, Wish, chosen, click, filled, find, ticked

Planner = Callable[[str, Sequence[Element]], FieldPlan]


def plan(task: str, goal: str, elements: Sequence[Element]) -> FieldPlan:
    """The plan of a task in its present state.

    Raises:
        NoPlanError: there is none for this task, or the page is not as it should be.
    """
    if task not in PLANNERS:
        raise NoPlanError(f"no plan for {task}; there is one for {', '.join(PLANNERS)}")
    return PLANNERS[task](goal, elements)


def labelled(elements: Sequence[Element], tag: str) -> dict[str, Element]:
    """Boxes of a tag by the text behind each."""
    pairs = pairwise(elements)
    return {after.text: box for box, after in pairs if box.tag == tag and after.ref is None}


def quoted(goal: str) -> list[str]:
    """Texts between double quotes in a goal."""
    return re.findall(r'"(.*?)"', goal)


def matched(pattern: str, goal: str) -> str:
    """The part of a goal between parentheses of a pattern.

    Raises:
        NoPlanError: the goal is not of this form.
    """
    match = re.search(pattern, goal)
    if match is None:
        raise NoPlanError(f"cannot read the goal {goal!r}")
    return match[1]


# Plans

ORDINALS = {"1st": 0, "2nd": 1, "3rd": 2}
WIDGETS = {"text": "input_text", "textarea": "textarea", "radio": "input_radio", "checkbox": "input_checkbox"}
BUTTONS = "button input_submit input_button"


def _only(element: Element, *wishes: Wish) -> FieldPlan:
    return FieldPlan(wishes, click(element))


def _submit(elements: Sequence[Element], *wishes: Wish, text: str = "Submit") -> FieldPlan:
    return FieldPlan(wishes, click(find(elements, BUTTONS, text)))


def _button_in_quotes(goal: str, elements: Sequence[Element]) -> FieldPlan:
    return _only(find(elements, BUTTONS, quoted(goal)[0]))


def _button_named(goal: str, elements: Sequence[Element]) -> FieldPlan:
    return _only(find(elements, BUTTONS, matched(r"button (\w+)\.", goal)))


def _sequence(goal: str, elements: Sequence[Element]) -> FieldPlan:
    one, two = find(elements, BUTTONS, "ONE"), find(elements, BUTTONS, "TWO")
    return _only(two, Wish(click(one), "focused" in one.flags, "one"))


def _link(goal: str, elements: Sequence[Element]) -> FieldPlan:
    return _only(find(elements, "a span", quoted(goal)[0]))


def _dialog(goal: str, elements: Sequence[Element]) -> FieldPlan:
    name = quoted(goal)[0]
    return _only(find(elements, BUTTONS, "Close" if name == "x" else name))


def _tab(goal: str, elements: Sequence[Element]) -> FieldPlan:
    return _only(find(elements, "a", matched(r"(Tab #\d)", goal)))


def _widget(goal: str, elements: Sequence[Element]) -> FieldPlan:
    kind = quoted(goal)[0]
    return _only(find(elements, WIDGETS.get(kind, kind)))


def _focus(goal: str, elements: Sequence[Element]) -> FieldPlan:
    boxes = [element for element in elements if element.tag == "input_text"]
    order = re.search(r"(1st|2nd|3rd)", goal)
    return _only(boxes[ORDINALS[order[1]] if order else 0])


def _checkboxes(goal: str, elements: Sequence[Element]) -> FieldPlan:
    wanted = matched(r"Select (.*) and click Submit", goal).split(", ")
    boxes = labelled(elements, "input_checkbox")
    return _submit(elements, *(ticked(box, text in wanted) for text, box in boxes.items()))


def _option(goal: str, elements: Sequence[Element]) -> FieldPlan:
    wanted = matched(r"Select (.*) and click Submit", goal)
    return _submit(elements, ticked(labelled(elements, "input_radio")[wanted]))


def _list(goal: str, elements: Sequence[Element]) -> FieldPlan:
    wanted = matched(r"Select (.*) from the list", goal)
    return _submit(elements, chosen(find(elements, "select"), wanted))


def _text(goal: str, elements: Sequence[Element]) -> FieldPlan:
    text = quoted(goal)[0]
    text = text.upper() if "upper case" in goal else text.lower() if "lower case" in goal else text
    return _submit(elements, filled(find(elements, "input_text"), text))


def _password(goal: str, elements: Sequence[Element]) -> FieldPlan:
    both = [filled(find(elements, "", id=name), quoted(goal)[0]) for name in ("password", "verify")]
    return _submit(elements, *both)


def _login(goal: str, elements: Sequence[Element]) -> FieldPlan:
    user, password = quoted(goal)
    popup = next((element for element in elements if element.id == "popup-cancel"), None)
    if popup is not None:
        return _only(popup)
    fields = filled(find(elements, "", id="username"), user), filled(find(elements, "", id="password"), password)
    return FieldPlan(fields, click(find(elements, "button", "Login")))


PLANNERS: Mapping[str, Planner] = {
    "click-test": lambda goal, elements: _only(find(elements, BUTTONS)),
    "click-test-2": _button_named,
    "click-test-transfer": _button_named,
    "click-button": _button_in_quotes,
    "unicode-test": _button_in_quotes,
    "click-button-sequence": _sequence,
    "click-link": _link,
    "click-dialog": lambda goal, elements: _only(find(elements, BUTTONS, "Close")),
    "click-dialog-2": _dialog,
    "click-tab": _tab,
    "click-widget": _widget,
    "focus-text": _focus,
    "focus-text-2": _focus,
    "click-checkboxes": _checkboxes,
    "click-checkboxes-large": _checkboxes,
    "click-checkboxes-transfer": _checkboxes,
    "click-option": _option,
    "choose-list": _list,
    "enter-text": _text,
    "enter-text-2": _text,
    "enter-text-dynamic": _text,
    "enter-password": _password,
    "login-user": _login,
    "login-user-popup": _login,
}
