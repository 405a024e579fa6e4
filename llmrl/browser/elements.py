"""The elements of a page that a person can see, and the text in which a policy reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmrl.browser.page import Page

Form = Literal["dom", "axtree", "html"]
SILENT_ROLES = frozenset(["RootWebArea", "generic", "none", "InlineTextBox", "LineBreak", "paragraph", "ListMarker"])
STATES = ("focused", "checked", "disabled", "selected", "expanded", "readonly")


@dataclass(frozen=True, slots=True)
class Element:
    """An element, or a text between elements.

    `Element(5, "input_text", id="tt", value="")` is `[5] input_text #tt value=""`.
    """

    ref: int | None  # by which actions name it; None: a text, which no action names
    tag: str  # in lower case, an input with its type; or the role in the accessibility tree
    text: str = ""
    id: str = ""
    value: str | None = None  # of a field; None: it has none
    flags: Sequence[str] = ()  # focused, checked, disabled, selected, expanded, readonly, scrollable
    options: Sequence[str] = ()  # of a list to select from
    look: str = ""  # classes of an element without text; colour and size of a shape
    box: Sequence[int] = (0, 0, 0, 0)  # left, top, width, height, in pixels of the view


async def read(page: Page, form: Form, hidden: str) -> list[Element]:
    """The visible elements in the order of the document.

    Args:
        page: which page.
        form: `axtree` takes roles and names from the accessibility tree; the others tags and texts of the document.
        hidden: CSS selector of what is left out, with all inside; "" for nothing.
    """
    if form == "axtree":
        return await _accessible(page, hidden)
    found = await page.ask(f"elements.list({json.dumps(hidden)})")
    return [Element(**entry) for entry in found]


async def _accessible(page: Page, hidden: str) -> list[Element]:
    nodes = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    heard = [node for node in nodes if not node.get("ignored") and _role(node) not in SILENT_ROLES]
    parents = {node["nodeId"]: node for node in nodes}
    heard = [node for node in heard if not _repeats(node, parents)]
    refs = await _refs(page, hidden, [node["backendDOMNodeId"] for node in heard])
    return [_element(node, ref) for node, ref in zip(heard, refs, strict=True) if ref is not None]


async def _refs(page: Page, hidden: str, nodes: Sequence[int]) -> list[int | None]:
    """Numbers of elements, by Chromium's numbers of their nodes."""
    if not nodes:
        return []
    world = await page.world()
    resolved = await asyncio.gather(
        *(page.call("DOM.resolveNode", {"backendNodeId": node, "executionContextId": world}) for node in nodes)
    )
    call = {
        "functionDeclaration": "(hidden, ...found) => elements.refs(hidden, ...found)",
        "executionContextId": world,
        "arguments": [{"value": hidden}, *({"objectId": node["object"]["objectId"]} for node in resolved)],
        "returnByValue": True,
    }
    refs: list[int | None] = (await page.call("Runtime.callFunctionOn", call))["result"]["value"]
    return refs


def _role(node: Mapping[str, Any]) -> str:
    return str(node.get("role", {}).get("value", ""))


def _name(node: Mapping[str, Any]) -> str:
    return str(node.get("name", {}).get("value", "")).strip()


def _repeats(node: Mapping[str, Any], parents: Mapping[str, Mapping[str, Any]]) -> bool:
    """True for a text that is the name of what holds it, and for one that is empty."""
    if _role(node) != "StaticText":
        return False
    parent = parents.get(node.get("parentId", ""), {})
    while parent and (parent.get("ignored") or _role(parent) in SILENT_ROLES):
        parent = parents.get(parent.get("parentId", ""), {})
    return not _name(node) or (_name(node) == _name(parent) and _role(parent) != "RootWebArea")


def _element(node: Mapping[str, Any], ref: int) -> Element:
    said = {entry["name"]: entry["value"].get("value") for entry in node.get("properties", ())}
    value = node.get("value", {}).get("value")
    return Element(
        ref=None if _role(node) == "StaticText" else ref,
        tag="text" if _role(node) == "StaticText" else _role(node),
        text=_name(node),
        value=None if value is None else str(value),
        flags=[state for state in STATES if said.get(state) in (True, "true")],
    )


def write(elements: Sequence[Element], form: Form, *, longest: int, most: int) -> str:
    """A line for each element.

    Args:
        elements: of the page, in order.
        form: `html` writes tags with numbers and boxes, as WebArena-Lite does; the others `[3] button "Submit"`.
        longest: characters of a text, a value or an option; longer ones end in `...`.
        most: elements; the rest is counted in a last line.
    """
    line = _html if form == "html" else _line
    lines = [line(element, longest) for element in elements[:most]]
    rest = [f"({len(elements) - most} more elements are not shown)"] if len(elements) > most else []
    return "\n".join(lines + rest)


def _line(element: Element, longest: int) -> str:
    parts = [f"[{'-' if element.ref is None else element.ref}]", element.tag]
    parts += [f"#{element.id}"] if element.id else []
    parts += [_quoted(element.text, longest)] if element.text else []
    parts += [f"value={_quoted(element.value, longest)}"] if element.value is not None else []
    parts += [f"options={_options(element, longest)}"] if element.options else []
    parts += [element.look] if element.look else []
    return " ".join([*parts, *element.flags])


def _html(element: Element, longest: int) -> str:
    if element.ref is None:
        return _cut(element.text, longest)
    words = [element.tag.replace("_", ' type="', 1) + '"' if "_" in element.tag else element.tag]
    words += [f'id="{element.ref}"']
    words += [f"value={_quoted(element.value, longest)}"] if element.value is not None else []
    words += [f"options={_options(element, longest)}"] if element.options else []
    words += element.flags
    words += [f'data-bbox="{",".join(map(str, element.box))}"']
    tag = element.tag.partition("_")[0]
    return f"<{' '.join(words)}> {_cut(element.text, longest)} </{tag}>"


def _options(element: Element, longest: int) -> str:
    return "[" + ", ".join(_quoted(option, longest) for option in element.options) + "]"


def _quoted(text: str, longest: int) -> str:
    return json.dumps(_cut(text, longest), ensure_ascii=False)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + "..."
