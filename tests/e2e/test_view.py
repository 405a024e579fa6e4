"""The viewer in a real Chromium: clicks, filters, keys, links, hostile texts, many episodes; skipped where none is."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from llmrl.browser.host import host
from llmrl.browser.page import Page
from llmrl.view.export import write
from tests.chromium import needs_browser
from tests.e2e.conftest import Command
from tests.view_runs import HOSTILE, write_evaluation, write_replay, write_run, write_step

pytestmark = needs_browser
T = TypeVar("T")
MANY = 10_000
SIZE = (1300, 850)
PATIENCE_S = 15.0
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000a49444154789c63000100000500010d0a2db4"
    "0000000049454e44ae426082"
)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(host().run(coroutine), 60))


class Tab:
    """A page, used by its mouse and its keyboard."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.errors: list[str] = []
        self.loads = 0
        reach = re.sub("^http://|/.*$", "", address) if address.startswith("http") else None
        self.page: Page = run(host().browser.open(SIZE, reach))
        hear = self.page._hear

        def listen(event: str, params: Any) -> None:
            if event == "Runtime.exceptionThrown":
                self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "?"))
            if event == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            hear(event, params)

        self.page.devtools.listen(self.page._session, listen)
        for domain in ("Runtime.enable", "Log.enable"):
            run(self.page.call(domain))

    def goto(self, hash_: str = "") -> None:
        """Load the page anew at an address."""
        self.loads += 1  # another address, or the page would not be loaded again
        run(self.page.goto(f"{self.address}?{self.loads}#{hash_}"))

    def js(self, expression: str) -> Any:
        return run(self.page.evaluate(expression))

    def until(self, expression: str, expected: Any = True) -> None:
        """Wait until an expression has a value."""
        ends = time.monotonic() + PATIENCE_S
        while (found := self.js(expression)) != expected:
            assert time.monotonic() < ends, f"{expression}: {found!r}, expected {expected!r}; errors: {self.errors}"
            time.sleep(0.03)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")
        return found

    def click(self, selector: str, place: int = 0, modifiers: int = 0) -> None:
        """Click with the mouse into the middle of an element."""
        element = f"document.querySelectorAll({json.dumps(selector)})[{place}]"
        self.until(f"Boolean({element})")
        middle = "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        self.js(f"{element}.scrollIntoView({{block: 'nearest'}})")
        x, y = self.js(f"{middle}({element}.getBoundingClientRect())")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            run(
                self.page.call(
                    "Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "modifiers": modifiers, **pressed}
                )
            )

    def press(self, *keys: str) -> None:
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            for kind in ("keyDown", "keyUp"):
                run(
                    self.page.call(
                        "Input.dispatchKeyEvent", {"type": kind, "key": key, **(text if kind == "keyDown" else {})}
                    )
                )

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self.js("document.activeElement.select()")
        run(self.page.call("Input.insertText", {"text": text}))

    def choose(self, label: str, value: str) -> None:
        """Choose an option of the list behind a label."""
        find = f"[...document.querySelectorAll('label')].find(e => e.textContent.startsWith({json.dumps(label)}))"
        self.until(f"Boolean({find})")
        self.js(f"window.list_ = {find}.querySelector('select'); list_.value = {json.dumps(value)}")
        self.js("list_.dispatchEvent(new Event('change'))")

    def count(self, expected: int) -> None:
        """Wait until the list says how many episodes it has."""
        self.until("document.getElementById('count')?.textContent.split(' episode')[0]", f"{expected:,}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    first = write_run(folder / "grpo-0", steps=4, count=8, texts=HOSTILE)
    write_run(folder / "grpo-1", steps=4, count=8)
    write_evaluation(first / "eval" / "step-000000", [True, True, False, False])
    write_evaluation(first / "eval" / "step-000004", [False, True, True, False])
    (first / "pictures").mkdir()
    (first / "pictures" / "page.png").write_bytes(PNG)
    (first / "errors.log").write_text(HOSTILE[0])
    write_run(folder / "many", steps=1, count=MANY)
    write_replay(first, 2, HOSTILE)
    inside = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    page = str(first / "pictures" / "page.png")  # by its whole path, as environments name it
    shown = [{"role": "user", "content": HOSTILE[1], "picture": page, "images": [inside, HOSTILE[0]]}]
    write_step(first, 4, 4, shown=shown)
    return folder


@pytest.fixture(scope="module")
def viewer(folder: Path, llmrl_module: Callable[..., Command]) -> Command:
    command = llmrl_module("view", str(folder), "--port", "0")
    command.wait_for(lambda: "ctrl-C ends it" in command.log.read_text())
    return command


@pytest.fixture(scope="module")
def address(viewer: Command) -> str:
    (found,) = re.findall(r"http://127\.0\.0\.1:\d+/", viewer.log.read_text())
    return str(found)


@pytest.fixture(scope="module")
def tab(address: str) -> Iterator[Tab]:
    tab = Tab(address)
    yield tab
    run(host().browser.close_page(tab.page))
    run(host().browser.close())


@pytest.fixture(autouse=True)
def no_errors(tab: Tab) -> Iterator[None]:
    tab.errors.clear()
    yield
    assert tab.errors == []
    assert tab.js("window.stolen") is None, "a text of a model ran as a script"


def test_curves_of_runs_stand_beside_one_another(tab: Tab) -> None:
    tab.goto()
    tab.until("document.querySelectorAll('.chart').length", 2)
    assert tab.texts("figcaption") == ["reward", "entropy"]
    assert tab.texts("#key span") == [" grpo, 2 seeds: mean and range", " many"]
    assert tab.js("document.querySelectorAll('.chart')[0].querySelectorAll('.curve').length") == 2
    tab.click("#bands")
    tab.until("document.querySelectorAll('.chart')[0].querySelectorAll('.curve').length", 3)
    assert tab.texts("#below td code") == ["train.max_steps", "train.seed"]
    tab.type("#search", "ENTR")
    tab.until("[...document.querySelectorAll('figcaption')].map(e => e.textContent).join()", "entropy")
    tab.click(".runs input", 2)
    tab.until("document.querySelectorAll('.curve').length", 2)
    tab.click(".plot svg")
    tab.until("location.hash.includes('view=episodes')")


def test_episodes_are_filtered_and_sorted(tab: Tab) -> None:
    tab.goto("view=episodes&run=grpo-1&step=2")
    tab.count(8)
    tab.choose("verdict", "wrong")
    tab.count(4)
    assert set(tab.texts(".row .verdict")) == {"wrong"}
    tab.type("#least_tokens", "5")
    tab.count(2)
    tab.click("#clear")
    tab.count(8)
    tab.type("#search", "answer 3 OF")
    tab.count(1)
    tab.choose("step", "all")
    tab.count(4)
    tab.click("#clear")
    tab.choose("step", "1")
    tab.count(8)
    tab.choose("order", "tokens")
    tab.click("#descending")
    tab.until("document.querySelector('.row .quiet').textContent", "7 tokens")
    tab.type("#most_reward", "-5")
    tab.count(0)
    tab.until("document.getElementById('detail').textContent.includes('Widen the filters')")


def test_an_episode_shows_its_tokens_by_any_number(tab: Tab) -> None:
    tab.goto("view=episodes&run=grpo-1&step=2&color=advantage")
    tab.click(".row", 1)
    tab.until("document.querySelectorAll('.token').length", 4)
    painted = "[...document.querySelectorAll('.token')].map(e => e.style.backgroundColor).join('|')"
    colours = {}
    for name in ("advantage", "gap", "entropy", "surprise", "none"):
        tab.click(f"[data-color={name}]")
        tab.until("document.querySelector('.segment.current').textContent", name)
        colours[name] = tab.js(painted)
    assert colours["none"] == "|||"
    assert "213, 94, 0" in colours["advantage"], "below 0"
    assert "0, 114, 178" in colours["advantage"], "above 0"
    assert len(set(colours.values())) == 4, "gap and advantage are proportional here"
    tab.click("[data-color=reward]")
    tab.until(
        "document.querySelector('.colour .missing')?.textContent.startsWith('This record has no rewards of tokens')"
    )
    assert "No tokenizer.json was found" in tab.texts(".episode .missing")[0]


def test_two_of_a_group_stand_side_by_side(tab: Tab) -> None:
    tab.goto("view=episodes&run=grpo-1&step=2&row=1")
    tab.until("document.querySelectorAll('.chip').length", 4)
    tab.click(".chip", 2, modifiers=8)  # with shift
    tab.until("document.querySelectorAll('.episode').length", 2)
    assert tab.texts(".title .quiet") == [" episode 1", " episode 2"]
    tab.click(".chip", 3)
    tab.until("[...document.querySelectorAll('.title .quiet')].map(e => e.textContent).join()", " episode 3")


def test_keys(tab: Tab) -> None:
    title = "document.querySelector('.title')?.textContent"
    tab.goto("view=episodes&run=grpo-1&step=2")
    tab.count(8)
    tab.press("j")
    tab.until(title, "correctsums/0 episode 0")
    tab.press("j")
    tab.until(title, "wrongsums/0 episode 1")
    tab.press("]")
    tab.until(title, "correctsums/0 episode 2")
    tab.press("k")
    tab.until(title, "wrongsums/0 episode 1")
    tab.press("s")
    tab.until("document.querySelectorAll('.episode').length", 2)
    tab.press("Escape")
    tab.until("document.querySelectorAll('.episode').length", 1)
    tab.press("ArrowRight", "ArrowRight")
    tab.until("document.querySelector('.token.chosen')?.dataset.token", "1")
    tab.press("c")
    tab.until("document.querySelector('.segment.current').textContent !== 'advantage'")
    tab.press("l")
    tab.until("new URLSearchParams(location.hash.slice(1)).get('step')", "3")
    tab.press("?")
    tab.until("Boolean(document.getElementById('keys'))")
    tab.press("Escape", "/")
    tab.until("document.activeElement.id", "search")
    tab.press("j")
    tab.until("document.activeElement.value", "j")
    tab.press("Escape", "t")
    tab.until("document.documentElement.dataset.theme !== undefined")
    tab.press("3")
    tab.until("location.hash.includes('view=evaluations')")


def test_a_link_leads_to_a_token(tab: Tab) -> None:
    tab.goto("view=episodes&run=grpo-1&step=1&row=4")
    tab.click(".token", 2)
    tab.until("document.querySelector('.token.chosen')?.dataset.token", "2")
    link = tab.js("location.hash.slice(1)")
    tab.goto("view=curves")
    tab.goto(link)
    tab.until("document.querySelector('.token.chosen')?.dataset.token", "2")
    assert tab.js("document.querySelector('.title').textContent") == "correctsums/1 episode 0"
    assert tab.js("document.querySelector('.row.current .preview b').textContent") == "1"


def test_hostile_texts_stay_texts(tab: Tab) -> None:
    for row, text in enumerate(HOSTILE):
        tab.goto(f"view=episodes&run=grpo-0&step=3&row={row}")
        tab.until("document.querySelectorAll('.row').length", 8)
        tab.until("document.querySelectorAll('.token').length", 3 + row % 5)
        assert text.split("\x00")[0][:9] in tab.texts(".row .preview")[row]
    tab.goto("view=episodes&run=grpo-0&step=4&row=0")
    tab.until("document.querySelector('.m-user pre')?.textContent", HOSTILE[1])
    tab.until("document.querySelector('img.screen')?.naturalWidth", 1)
    tab.until("document.querySelector('img[alt=\"picture in the message\"]')?.naturalWidth", 1)
    assert HOSTILE[0] in str(tab.texts(".missing"))
    tab.goto("view=files&run=grpo-0&path=errors.log")
    tab.until("document.querySelector('pre.text')?.textContent", HOSTILE[0])
    tab.goto("view=episodes&run=%3Cimg+src%3Dx+onerror%3D%22window.stolen%3D9%22%3E")
    tab.until("document.getElementById('main').textContent", "There is no run of this name.")
    assert tab.js("document.querySelectorAll('main script, main svg, main img').length") == 0


def test_ten_thousand_episodes_are_a_list_like_any(tab: Tab) -> None:
    began = time.monotonic()
    tab.goto("view=episodes&run=many")
    tab.count(MANY)
    seconds = time.monotonic() - began
    assert tab.js("document.querySelectorAll('.row').length") < 60, "only what is seen is drawn"
    tab.js("document.getElementById('list').scrollTop = 1e9")
    tab.until("[...document.querySelectorAll('.row')].pop().textContent.includes('answer 9999 of step 0')")
    tab.type("#search", "answer 7777 ")
    tab.count(1)
    tab.choose("verdict", "correct")
    tab.count(0)
    assert seconds < PATIENCE_S


def test_what_was_right_and_is_wrong_now(tab: Tab) -> None:
    tab.goto("view=evaluations&run=grpo-0")
    tab.until("document.querySelectorAll('.comparison').length", 1)
    assert tab.texts(".comparison summary b") == ["sums/0"]
    assert HOSTILE[0] in tab.texts(".answer pre")
    tab.click("[data-change=won]")
    tab.until("document.querySelector('.comparison summary b').textContent", "sums/2")
    assert [text.split()[-1] for text in tab.texts(".segment")] == ["1", "1", "1", "1"]


def test_a_run_that_trains_is_followed(tab: Tab, folder: Path) -> None:
    live = write_run(folder / "live", steps=1, count=4, status="running")
    tab.goto("view=episodes&run=live")
    tab.count(4)
    tab.until("document.getElementById('live').textContent", "1 running")
    write_step(live, 1, 8)
    tab.count(8)
    tab.until("document.querySelector('#filters select').value", "1")


def test_a_replayed_step_shows_its_table_verdicts_and_tokens(tab: Tab) -> None:
    """Beside the step's episodes; hostile texts, labels and reasons stay texts."""
    tab.goto("view=episodes&run=grpo-0&step=2")
    tab.click("#replays summary")
    heads = tab.texts("#replays details > .scrolls:first-of-type th")
    assert heads == ["", "as recorded", "rloo", HOSTILE[0]]
    assert "gradient, cosine10.50.25" in tab.texts("#replays tbody tr")
    assert tab.texts("#replays h3")[0] == f"{HOSTILE[1]}: 1 of 2 verdicts or scores change"
    assert [tab.js(f"document.querySelectorAll('#replays [data-change=\"{sign}\"]').length") for sign in (1, -1)] == [
        1,
        1,
    ]
    tab.choose("tokens by change of credit under", HOSTILE[0])
    tab.until("document.querySelectorAll('#replays [data-change=\"1\"]').length", 2)
    assert tab.texts("#replays .token")[:2] == list(HOSTILE[2:4])
    tab.goto("view=episodes&run=grpo-0&step=1")
    tab.count(8)
    assert tab.texts("#replays details") == []


def test_a_page_that_was_sent_needs_no_server(tab: Tab, folder: Path, tmp_path: Path) -> None:
    write([folder / "grpo-0"], tmp_path / "page.html", steps=[3])
    sent = Tab((tmp_path / "page.html").as_uri())
    try:
        sent.goto()
        sent.until("document.querySelectorAll('.chart').length", 2)
        sent.goto("view=episodes&run=grpo-0&step=3&row=0&with=1")
        sent.count(8)
        sent.until("document.querySelectorAll('.episode').length", 2)
        sent.type("#search", "ONERROR")
        sent.count(1)
        assert sent.texts("#replays details") == []
        sent.goto("view=evaluations")
        sent.click("[data-change=won]")
        sent.until("document.querySelector('.comparison summary b').textContent", "sums/2")
        assert sent.errors == []
        assert sent.js("window.stolen") is None
    finally:
        run(host().browser.close_page(sent.page))


def test_it_ends_at_once(viewer: Command, tab: Tab) -> None:
    began = time.monotonic()
    viewer.process.send_signal(signal.SIGINT)
    assert viewer.process.wait(10) == 0
    assert time.monotonic() - began < 8
    assert "Traceback" not in viewer.log.read_text()
    tab.until("document.body.classList.contains('lost')")
    tab.errors.clear()  # the page has asked in vain
