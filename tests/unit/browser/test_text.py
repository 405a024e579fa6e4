"""Text of pages and messages of episodes, by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llmrl.browser.curriculum import shaped, target_fields, warm_start
from llmrl.browser.elements import Element, write
from llmrl.browser.transcript import Transcript

ELEMENTS = [
    Element(3, "button", "Submit"),
    Element(5, "input_text", id="tt", value="", flags=["focused"], box=[2, 50, 120, 21]),
    Element(None, "text", "First name"),
    Element(7, "select", value="A", options=["A", "B"]),
    Element(9, "circle", look="color=red size=20x20"),
]


def test_a_line_is_an_element() -> None:
    assert write(ELEMENTS, "dom", longest=80, most=9).splitlines() == [
        '[3] button "Submit"',
        '[5] input_text #tt value="" focused',
        '[-] text "First name"',
        '[7] select value="A" options=["A", "B"]',
        "[9] circle color=red size=20x20",
    ]


def test_html_has_numbers_and_boxes() -> None:
    assert write(ELEMENTS[:3], "html", longest=80, most=9).splitlines() == [
        '<button id="3" data-bbox="0,0,0,0"> Submit </button>',
        '<input type="text" id="5" value="" focused data-bbox="2,50,120,21">  </input>',
        "First name",
    ]


def test_long_texts_are_cut_and_many_elements_counted() -> None:
    page = write([Element(1, "p", "abcdef"), *ELEMENTS], "dom", longest=4, most=2)
    assert page.splitlines() == ['[1] p "abcd..."', '[3] button "Subm..."', "(4 more elements are not shown)"]


def test_kept_history_appends_pages() -> None:
    transcript = Transcript("kept", "HELP", "Do it.")
    assert transcript.show("PAGE 0") == [{"role": "user", "content": "HELP\n\nGoal: Do it.\n\nPAGE 0"}]
    transcript.replies.append("click(1)")
    assert transcript.show("PAGE 1") == [{"role": "user", "content": "PAGE 1"}]
    assert not transcript.is_whole


def test_placeholders_leave_one_page() -> None:
    transcript = Transcript("placeholders", "", "Do it.")
    assert [m["content"] for m in transcript.show("PAGE 0")] == ["Task Instruction: Do it.\n\nRound 0\n\nPAGE 0"]
    assert not transcript.is_whole
    transcript.replies += ["A", "B"]
    assert transcript.is_whole
    assert [(m["role"], m["content"]) for m in transcript.show("PAGE 2")] == [
        ("user", "Task Instruction: Do it.\n\nRound 0\n\nDo it."),
        ("assistant", "A"),
        ("user", "Round 1\n\n** Simplified html **"),
        ("assistant", "B"),
        ("user", "Round 2\n\nPAGE 2"),
    ]


def test_fields_by_progress() -> None:  # case curriculum_mixture
    progress = [0.0, 0.2, 0.5, 0.81, 1.0]
    assert [target_fields(5, c) for c in progress] == [1, 1, 3, 5, 5]
    for c, remaining in zip(progress, [0, 1.0, 2.5, 4.05, 5.0], strict=True):
        left = [5 - len(warm_start(range(5), c, str(seed))) for seed in range(4000)]
        assert sum(left) / len(left) == pytest.approx(remaining, abs=0.08)
    assert warm_start(range(50), 0.5, "a") == warm_start(range(50), 0.5, "a") != warm_start(range(50), 0.5, "b")


def test_shaping_telescopes() -> None:  # case potential_shaping
    potentials = [0.0, 0.25, 0.25, 0.75, 1.0]
    rewards = [shaped(before, after, 0.99) for before, after in pairwise(potentials)]
    assert rewards == pytest.approx([0.2475, -0.0025, 0.4925, 0.24], abs=1e-9)
    assert sum(0.99**t * reward for t, reward in enumerate(rewards)) == pytest.approx(0.96059601, abs=1e-9)
