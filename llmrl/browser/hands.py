"""Mouse and keyboard of a page: actions become the events that a person's hands would cause."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llmrl.browser.actions import Action, ActionError
from llmrl.browser.devtools import DevToolsError, PageLostError
from llmrl.browser.page import Page

Point = tuple[float, float]
WAIT_S = 0.5
DRAG_MOVES = 8  # libraries take a drag for one after several moves
MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
KEYS: Mapping[str, tuple[int, str]] = {  # Windows' number of the key, and the text that it writes
    "Enter": (13, "\r"),
    "Tab": (9, ""),
    "Escape": (27, ""),
    "Backspace": (8, ""),
    "Delete": (46, ""),
    "Space": (32, " "),
    "Home": (36, ""),
    "End": (35, ""),
    "PageUp": (33, ""),
    "PageDown": (34, ""),
    "ArrowLeft": (37, ""),
    "ArrowUp": (38, ""),
    "ArrowRight": (39, ""),
    "ArrowDown": (40, ""),
}


async def perform(page: Page, action: Action) -> None:
    """Perform an action and wait until the page is still; `stop` does nothing to a page.

    Raises:
        ActionError: the page has no such element, or it cannot be used so; says why, for the policy to read.
        PageLostError: the page is gone, or the browser broke in the midst of the action.
    """
    before = page.documents
    failure: DevToolsError | None = None
    try:
        await _PERFORM[action.name](page, action)
    except DevToolsError as error:
        failure = error
    await page.settle()
    # where the page moved on, as after a click that opens another, what was left of the action went with it
    if failure is not None and page.documents == before:
        raise PageLostError(f"{action.name}: {failure}")


async def _point(page: Page, ref: int | None) -> tuple[float, float, float]:
    """The middle of an element, and its inner height; of the view for 0."""
    if not ref:
        width, height = await page.ask("[innerWidth, innerHeight]")
        return width / 2, height / 2, height
    place = await page.ask(f"elements.point({ref})")
    if isinstance(place, str):
        raise ActionError(_without(ref, place))
    return place[0], place[1], place[2]


def _without(ref: int | None, reason: str) -> str:
    return f"there is no element {ref} on this page" if reason == "gone" else f"element {ref} is {reason}"


async def _mouse(page: Page, kind: str, at: Point, **options: Any) -> None:
    await page.call("Input.dispatchMouseEvent", {"type": kind, "x": at[0], "y": at[1], **options})


async def _press(page: Page, at: Point, *, button: str = "left", times: int = 1) -> None:
    await _mouse(page, "mouseMoved", at)
    for count in range(1, times + 1):
        await _mouse(page, "mousePressed", at, button=button, clickCount=count)
        await _mouse(page, "mouseReleased", at, button=button, clickCount=count)


async def _click(page: Page, action: Action) -> None:
    await _press(page, (await _point(page, action.ref))[:2])


async def _double_click(page: Page, action: Action) -> None:
    await _press(page, (await _point(page, action.ref))[:2], times=2)


async def _right_click(page: Page, action: Action) -> None:
    await _press(page, (await _point(page, action.ref))[:2], button="right")


async def _hover(page: Page, action: Action) -> None:
    await _mouse(page, "mouseMoved", (await _point(page, action.ref))[:2])


async def _scroll(page: Page, action: Action) -> None:
    x, y, height = await _point(page, action.ref)
    distance = height * 2 / 3 * (-1 if action.text == "up" else 1)
    await _mouse(page, "mouseWheel", (x, y), deltaX=0, deltaY=distance)


async def _drag(page: Page, action: Action) -> None:
    start, end = (await _point(page, action.ref))[:2], (await _point(page, action.to))[:2]
    start = (await _point(page, action.ref))[:2]  # the second may have been scrolled into view
    await _mouse(page, "mouseMoved", start)
    await _mouse(page, "mousePressed", start, button="left", clickCount=1)
    for move in range(1, DRAG_MOVES + 1):
        share = move / DRAG_MOVES
        at = (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
        await _mouse(page, "mouseMoved", at, button="left", buttons=1)
    await _mouse(page, "mouseReleased", end, button="left", clickCount=1)


async def _focus(page: Page, ref: int | None) -> None:
    """Click into a field and go behind its text; a field of parts, such as a date, begins with its first."""
    await _press(page, (await _point(page, ref))[:2])
    if await page.ask(f"elements.type({ref})") in ("date", "time", "month", "datetime-local"):
        await page.ask(f"elements.focus({ref})")
    else:
        await _key(page, "End")


async def _type(page: Page, action: Action) -> None:
    await _focus(page, action.ref)
    await write(page, action.text)


async def _clear(page: Page, action: Action) -> None:
    await _focus(page, action.ref)
    await _key(page, "a", ["Control"], ["selectAll"])
    await _key(page, "Backspace")


async def _retype(page: Page, action: Action) -> None:
    await _clear(page, action)
    await write(page, action.text)


async def _search(page: Page, action: Action) -> None:
    await _retype(page, action)
    await _key(page, "Enter")


async def _select(page: Page, action: Action) -> None:
    refusal = await page.ask(f"elements.choose({action.ref}, {json.dumps(action.text)})")
    if refusal:
        raise ActionError(_without(action.ref, refusal))


async def _press_key(page: Page, action: Action) -> None:
    *modifiers, key = action.text.split("+") if len(action.text) > 1 else [action.text]
    if not all(modifier in MODIFIERS for modifier in modifiers) or not (key in KEYS or len(key) == 1):
        raise ActionError(f"unknown key {action.text!r}; known: one character, {', '.join(KEYS)}")
    await _key(page, key, modifiers, ["selectAll"] if (modifiers, key.lower()) == (["Control"], "a") else ())


async def write(page: Page, text: str) -> None:
    """Type a text, key by key; characters that no key has are inserted."""
    for character in text:
        key = {"\n": "Enter", "\t": "Tab"}.get(character, character)
        if key in KEYS or key.isascii():
            await _key(page, key)
        else:
            await page.call("Input.insertText", {"text": character})


async def _key(page: Page, key: str, modifiers: Any = (), commands: Any = ()) -> None:
    code, text = KEYS.get(key) or (ord(key.upper()) if key.isalnum() else 0, key)
    shortcut = set(modifiers) - {"Shift"}
    event = {
        "key": " " if key == "Space" else key,
        "code": key
        if key in KEYS
        else f"Key{key.upper()}"
        if key.isalpha()
        else f"Digit{key}"
        if key.isdigit()
        else "",
        "windowsVirtualKeyCode": code,
        "modifiers": sum(MODIFIERS[modifier] for modifier in modifiers),
    }
    down = {"type": "keyDown" if text and not shortcut else "rawKeyDown", "commands": list(commands)}
    down |= {"text": text} if text and not shortcut else {}
    await asyncio.gather(  # both are sent at once, and Chromium keeps their order
        page.call("Input.dispatchKeyEvent", event | down),
        page.call("Input.dispatchKeyEvent", event | {"type": "keyUp"}),
    )


async def _wait(page: Page, action: Action) -> None:
    await asyncio.sleep(WAIT_S)


async def _go(page: Page, action: Action) -> None:
    """Go back or forward, where there is somewhere to go."""
    history = await page.call("Page.getNavigationHistory")
    to = history["currentIndex"] + (-1 if action.name == "back" else 1)
    if not 0 <= to < len(history["entries"]):
        raise ActionError(f"there is no page to go {action.name} to")
    await page.revisit(history["entries"][to]["id"])


async def _stop(page: Page, action: Action) -> None:
    pass


_PERFORM: Mapping[str, Callable[[Page, Action], Awaitable[None]]] = {
    "click": _click,
    "dblclick": _double_click,
    "rightclick": _right_click,
    "hover": _hover,
    "type": _type,
    "clear": _clear,
    "retype": _retype,
    "search": _search,
    "select": _select,
    "press": _press_key,
    "scroll": _scroll,
    "drag": _drag,
    "wait": _wait,
    "back": _go,
    "forward": _go,
    "stop": _stop,
}
