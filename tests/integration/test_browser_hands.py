"""Mouse, keyboard and reading on a page written for it; skipped without Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmrl.browser.actions import Action, ActionError
from llmrl.browser.elements import Element, read
from llmrl.browser.hands import perform
from llmrl.browser.host import host
from llmrl.browser.page import Page
from tests.chromium import needs_chromium

pytestmark = needs_chromium

HTML = """<!doctype html><body style="margin:0">
<input id="name"><input id="late" disabled value="x"><input id="box" type="checkbox"><input id="day" type="date">
<select id="one"><option>A<option>B  b</select><select id="many" multiple><option>C<option>D</select>
<div id="scroller" style="height:40px;width:60px;overflow:auto"><div style="height:400px">long</div></div>
<div style="position:relative;height:40px"><button id="under">Under</button>
<div id="cover" style="position:absolute;left:0;top:0;width:40px;height:40px;background:red"></div></div>
<p>Some <b>bold</b> words</p><span hidden>no</span><span style="visibility:hidden">no</span><div id="empty"></div>
<button id="ask" onclick="alert('stop')">Ask</button>
<div style="height:2000px"></div><button id="far">Far</button><div id="goal" style="height:20px">goal</div>
<script>
window.seen = [];
const tell = (event) => seen.push([event.type, event.target.id, event.key].filter((word) => word).join(":"));
for (const kind of ["click", "dblclick", "contextmenu", "keydown", "change", "mouseover"]) addEventListener(kind, tell);
let from = null, moves = 0;
addEventListener("mousedown", (event) => { from = event.target.id; moves = 0; });
addEventListener("mousemove", () => moves++);
addEventListener("mouseup", (event) => { if (moves > 3) seen.push(`drag:${from}:${event.target.id}`); });
</script>"""


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    yield
    asyncio.run(host().run(host().browser.close()))


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "page.html").write_text(HTML, encoding="utf-8")
    return (tmp_path / "page.html").as_uri()


def on_page(url: str, *steps: tuple[str, str, str]) -> tuple[list[str], dict[str, Element], Any]:
    """Perform steps of (action, id of the element, text); returns events, elements, and the page's scroll."""

    async def inside() -> tuple[list[str], dict[str, Element], Any]:
        page: Page = await host().browser.open((400, 300))
        try:
            await page.goto(url)
            for name, id, text in steps:
                refs = {element.id: element.ref for element in await read(page, "dom", "")}
                await perform(page, Action(name, refs.get(id, 0), text, refs.get(text)))
            elements = {element.id or element.text: element for element in await read(page, "dom", "")}
            return await page.evaluate("seen"), elements, await page.evaluate("[scroller.scrollTop, scrollY]")
        finally:
            await host().browser.close_page(page)

    return asyncio.run(host().run(inside()))


def test_keys_are_typed_behind_what_is_there_and_cleared(url: str) -> None:
    events, elements, _ = on_page(url, ("type", "name", "Añ1"), ("type", "name", "b!"), ("press", "name", "Shift+Tab"))
    assert elements["name"].value == "Añ1b!"
    assert [event for event in events if event.startswith("keydown:name") and event[-2] == ":"] == [
        f"keydown:name:{key}" for key in "A1b!"
    ], "ñ has no key"
    _, elements, _ = on_page(url, ("type", "name", "abc"), ("clear", "name", ""))
    assert elements["name"].value == ""
    _, elements, _ = on_page(url, ("type", "name", "abc"), ("retype", "name", "x y"))
    assert elements["name"].value == "x y"
    _, elements, _ = on_page(url, ("type", "day", "02031999"))
    assert elements["day"].value == "1999-02-03"


def test_the_mouse_clicks_what_a_person_would(url: str) -> None:
    events, elements, _ = on_page(
        url, ("click", "box", ""), ("dblclick", "name", ""), ("rightclick", "name", ""), ("hover", "ask", "")
    )
    assert "checked" in elements["box"].flags
    for event in ("click:box", "dblclick:name", "contextmenu:name", "mouseover:ask"):
        assert event in events
    events, _, (_, scroll) = on_page(url, ("click", "under", ""), ("click", "far", ""))
    assert "click:under" in events, "a part of it is free"
    assert "click:far" in events
    assert scroll > 1000
    events, _, _ = on_page(url, ("drag", "name", "under"))
    assert "drag:name:under" in events


def test_lists_are_chosen_from_and_dialogs_answered(url: str) -> None:
    events, elements, _ = on_page(
        url, ("select", "one", "B b"), ("select", "many", "C"), ("select", "many", "D"), ("select", "many", "C")
    )
    assert (elements["one"].value, elements["many"].value) == ("B b", "D")
    assert events.count("change:many") == 3
    with pytest.raises(ActionError, match="without such an option"):
        on_page(url, ("select", "one", "Z"))
    events, _, _ = on_page(url, ("click", "ask", ""), ("click", "box", ""))
    assert events[-1] == "change:box"


def test_pages_and_parts_scroll(url: str) -> None:
    _, _, (inner, outer) = on_page(url, ("scroll", "scroller", "down"))
    assert inner > 0
    assert outer == 0
    _, _, (inner, outer) = on_page(url, ("scroll", "", "down"), ("scroll", "", "down"), ("scroll", "", "up"))
    assert inner == 0
    assert outer == pytest.approx(200, abs=5)


def test_what_a_person_sees_is_read(url: str) -> None:
    _, elements, _ = on_page(url)
    assert not {"no", "empty"} & set(elements)
    assert elements["late"].flags == ["disabled"]
    assert elements["one"].options == ["A", "B b"]
    assert elements["scroller"].flags == ["scrollable"]
    assert elements["cover"].look == "color=rgb(255,0,0)"
    assert [elements[text].ref is None for text in ("Some", "bold", "words")] == [True, False, True]
    for element in elements.values():
        assert element.tag == "text" or element.box[2] > 0
