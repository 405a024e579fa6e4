"""Actions as policies write them: two grammars, read from the last line that is a call, and hostile text."""

from __future__ import annotations

import pytest

from llmrl.browser.actions import Action, ActionError, Grammar, read_action
from llmrl.browser.players import written


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("click(3)", Action("click", 3)),
        ("I click it.\n  `click( 12 )`  ", Action("click", 12)),
        ("click(1)\nclick(2)\nThat is all.", Action("click", 2)),
        ("click(1) # the button", Action("click", 1)),
        ('<think>click(9)</think>\ntype(5, "Ann")', Action("type", 5, "Ann")),
        (r'type(5, "a \"b\" c")', Action("type", 5, 'a "b" c')),
        (r'type(5, "\d")', Action("type", 5, r"\d")),
        ("type(5, 'it')", Action("type", 5, "it")),
        ('select(4, "Côte d\'Ivoire")', Action("select", 4, "Côte d'Ivoire")),
        ('press("Enter")', Action("press", None, "Enter")),
        ('scroll(0, "down")', Action("scroll", 0, "down")),
        ("drag(1, 2)", Action("drag", 1, to=2)),
        ("wait()", Action("wait")),
        ("stop()", Action("stop")),
        ('stop("$12.50")', Action("stop", None, "$12.50")),
    ],
)
def test_a_call_is_read(text: str, action: Action) -> None:
    assert read_action(text, "calls") == action


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no action"),
        ("I would click the button", "no action"),
        ("<think>click(3)", "no action"),
        ("click()", r"expected click\(REF\)"),
        ("click(0)", r"expected click\(REF\)"),
        ("click(-1)", r"expected click\(REF\)"),
        ('click("3")', r"expected click\(REF\)"),
        ("click(ref=3)", r"expected click\(REF\)"),
        ("click(007)", "cannot read"),
        ("fly(3)", "unknown action fly; known: click"),
        ('scroll(1, "left")', '"up" or "down"'),
        ('__import__("os").system("ls")', "cannot read"),
        ("click(int(3))", "cannot read"),
        ("type(1, f'x')", "cannot read"),
        ('type(1, "a" * 9)', "cannot read"),
        (f'type(1, "{"a" * 257}")', "longer than 256"),
    ],
)
def test_what_is_no_action_says_why(text: str, words: str) -> None:
    with pytest.raises(ActionError, match=words):
        read_action(text, "calls")


def test_a_bad_line_before_a_good_one_does_not_matter() -> None:
    assert read_action("fly(3)\nclick(4)\nfly(5)", "calls") == Action("click", 4)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (
            '# Element: the search bar\ndo(action="Search", argument="red mug", element="13")',
            Action("search", 13, "red mug"),
        ),
        ('do(action="Click", element="7")', Action("click", 7)),
        ('do("Click", None, 7)', Action("click", 7)),
        ('do(action="Type", argument="x", element="2")', Action("retype", 2, "x")),
        ('do(action="Select Dropdown Option", argument="Month", element="20")', Action("select", 20, "Month")),
        ('do(action="Scroll Down")', Action("scroll", 0, "down")),
        ('do(action="Press Enter")', Action("press", None, "Enter")),
        ('exit(message="It is 42")', Action("stop", None, "It is 42")),
        ("exit()", Action("stop")),
        ("go_backward()", Action("back")),
        ("go_forward()", Action("forward")),
    ],
)
def test_a_line_of_webarena_is_read(text: str, action: Action) -> None:
    assert read_action(text, "webarena") == action


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("click(3)", "unknown function click"),
        ('do(action="Fly")', "unknown action 'Fly'"),
        ('do(action="Click")', "number of an element"),
        ('do(action="Click", element="the button")', "number of an element"),
        ('do(action="Type", element="3")', "argument"),
        ('do(action="Switch Tab", argument="1")', "one tab"),
        ('do(action="Click", action="Type", element="3")', "cannot read"),
        ('do(action="Click", element="3", force="1")', "action, argument and element"),
    ],
)
def test_a_wrong_line_of_webarena_says_why(text: str, words: str) -> None:
    with pytest.raises(ActionError, match=words):
        read_action(text, "webarena")


@pytest.mark.timeout(60)  # a second or less, or hours where time grows with the square
@pytest.mark.parametrize("grammar", ["calls", "webarena"])
def test_hostile_text_is_no_action_and_costs_no_time(grammar: Grammar) -> None:
    mega = 1_000_000
    texts = ["a" * mega, "(" * mega, "click(" * (mega // 6), "click(" + "(" * mega, 'type(1, "' + "\\" * mega]
    texts += ["type(1,'" * (mega // 8), "click(1\x00)", "click(\ud800)", "click(١)", "\n" * mega]
    for text in texts:
        with pytest.raises(ActionError):
            read_action(text, grammar)


@pytest.mark.parametrize(
    "action",
    [
        Action("click", 3),
        Action("type", 5, 'a "b"'),
        Action("select", 4, "x"),
        Action("stop"),
        Action("back"),
    ],
)
def test_players_write_what_is_read(action: Action) -> None:
    assert read_action(written(action, "calls"), "calls") == action
    name = {"type": "retype"}.get(action.name, action.name)
    assert read_action(written(action, "webarena"), "webarena") == Action(name, action.ref, action.text)
