"""MiniWoB++ without a browser: names, seeds, pages, and plans for pages written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl import plugins
from llmrl.browser.actions import Action
from llmrl.browser.elements import Element
from llmrl.browser.miniwob.catalogue import EASY, KINDS, STEPS, TASKS, expand, find_pages
from llmrl.browser.miniwob.plans import PLANNERS, plan
from llmrl.browser.wishes import NoPlanError
from llmrl.errors import BrowserError, DataError, RecipeError
from llmrl.types import Problem

LOGIN = 'Enter the username "ann" and the password "x9" into the text fields and press login.'
SUBMIT = Element(9, "button", "Submit", id="subbtn")


def login(user: str, password: str) -> list[Element]:
    fields = [("username", "input_text", user), ("password", "input_password", password)]
    boxes = [Element(n, tag, id=id, value=value) for n, (id, tag, value) in enumerate(fields, start=2)]
    return [*boxes, Element(4, "button", "Login")]


def test_tasks_are_named_once_and_belong_to_a_kind() -> None:
    assert len(TASKS) == sum(map(len, KINDS.values())) >= 40
    assert set(STEPS) == set(KINDS)
    assert set(EASY) | set(PLANNERS) <= set(TASKS)
    assert set(EASY) <= set(PLANNERS)
    assert expand(["easy", "click-test", "mail"]) == [*EASY, *KINDS["mail"]]
    with pytest.raises(DataError, match="did you mean 'click-test'"):
        expand(["click-tset"])


def test_the_page_names_every_task() -> None:
    text = (Path(__file__).parents[3] / "docs" / "browser.md").read_text(encoding="utf-8")
    for kind, names in {**KINDS, "easy": EASY}.items():
        listed = text.split(f"- `{kind}`: ")[1].split(".\n")[0]
        assert [name.strip() for name in listed.replace("\n", " ").split(",")] == list(names)


def test_pages_are_found_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrowserError, match="expected the folder that holds"):
        find_pages(str(tmp_path))
    (tmp_path / "click-test.html").touch()
    assert find_pages(str(tmp_path)) == tmp_path
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BrowserError, match="pip install --no-deps miniwob"):
        find_pages("")


def test_a_form_is_filled_field_by_field() -> None:
    steps = [
        (login("", ""), Action("type", 2, "ann"), 0.0),
        (login("bob", ""), Action("clear", 2), 0.0),
        (login("ann", ""), Action("type", 3, "x9"), 0.5),
        (login("ann", "x9"), Action("click", 4), 1.0),
    ]
    for elements, action, reached in steps:
        made = plan("login-user", LOGIN, elements)
        assert (made.next(), made.reached) == (action, reached)


def test_boxes_are_ticked_by_the_text_behind_them() -> None:
    def page(*ticked: str) -> list[Element]:
        boxes = []
        for n, text in enumerate("abc", start=1):
            boxes += [Element(n, "input_checkbox", flags=["checked"] if text in ticked else [])]
            boxes += [Element(None, "text", text)]
        return [*boxes, SUBMIT]

    goal = "Select a, c and click Submit."
    assert plan("click-checkboxes", goal, page()).next() == Action("click", 1)
    assert plan("click-checkboxes", goal, page("a", "b")).next() == Action("click", 2)
    assert plan("click-checkboxes", goal, page("a", "c")).next() == Action("click", 9)
    assert plan("click-checkboxes", goal, page("a")).reached == pytest.approx(2 / 3)


ONE, TWO = Element(1, "button", "ONE"), Element(2, "button", "TWO")
LIST = Element(1, "select", value="Bo")
BOXES = [Element(n, "input_text", value="") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("task", "goal", "elements", "action"),
    [
        ("click-test-2", "Click button TWO.", [ONE, TWO], Action("click", 2)),
        ("click-button", 'Click on the "TWO" button.', [Element(3, "p", "TWO"), ONE, TWO], Action("click", 2)),
        ("focus-text-2", "Focus into the 2nd input textbox.", BOXES, Action("click", 2)),
        (
            "choose-list",
            "Select Ann from the list",
            [Element(1, "select", value="Bo"), SUBMIT],
            Action("select", 1, "Ann"),
        ),
        ("enter-text-2", 'Type "Ann" in all upper case letters', [*BOXES, SUBMIT], Action("type", 1, "ANN")),
        ("click-dialog-2", 'Click the button labeled "x".', [Element(1, "button", "Close")], Action("click", 1)),
    ],
)
def test_plans_read_goals(task: str, goal: str, elements: list[Element], action: Action) -> None:
    assert plan(task, goal, elements).next() == action


def test_a_strange_page_has_no_plan() -> None:
    with pytest.raises(NoPlanError, match="no button Login"):
        plan("login-user", LOGIN, login("", "")[:2])
    with pytest.raises(NoPlanError, match="no plan for book-flight"):
        plan("book-flight", "", [])


# Data


def ids(**options: object) -> list[Problem]:
    return list(plugins.build("data", {"name": "miniwob", **options}).problems())


def test_train_and_test_share_no_page() -> None:
    train, test = ids(seeds=5), ids(seeds=5, split="test")
    assert len(train) == len(test) == 5 * len(EASY)
    assert not {(p.info["task"], p.info["seed"]) for p in train} & {(p.info["task"], p.info["seed"]) for p in test}
    assert [p.info["task"] for p in train[: len(EASY)]] == list(EASY)
    with pytest.raises(RecipeError, match="first \\+ seeds at most 1000000"):
        ids(seeds=1, first=1_000_000)
    with pytest.raises(RecipeError, match="unknown MiniWoB"):
        ids(tasks=["nothing"])


def test_levels_are_of_tasks_with_a_plan() -> None:
    problems = ids(tasks=["login-user", "book-flight"], seeds=1, levels=4)
    assert [(p.info["task"], p.info["progress"], p.info["level"]) for p in problems] == [
        *(("login-user", level / 4, level) for level in (1, 2, 3, 4)),
        ("book-flight", 1.0, 4),
    ]
    assert len({p.id for p in problems}) == 5


def test_goals_of_the_shop_come_by_kind_and_level() -> None:
    data = plugins.build("data", {"name": "shop", "kinds": ["login", "buy"], "seeds": 1, "levels": 2, "split": "test"})
    problems = list(data.problems())
    assert [p.id for p in problems] == ["shop/login/1000000/2of2", "shop/buy/1000000/1of2", "shop/buy/1000000/2of2"]
    assert ["pay by" in str(p.messages) for p in problems] == [False, False, True]
    with pytest.raises(RecipeError, match="unknown 'steal'; known: find, cheapest"):
        plugins.build("data", {"name": "shop", "kinds": ["steal"]})


# Environments


@pytest.mark.parametrize(("env", "expected"), [("miniwob", "expected data: {name: miniwob}"), ("shop", "{name: shop}")])
def test_a_foreign_problem_is_refused(env: str, expected: str) -> None:
    with pytest.raises(DataError, match=f"problem p: .*{expected}"):
        plugins.build("env", env).make(Problem(id="p", messages=[]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shaping": -1}, "shaping must"),
        ({"max_steps": 0}, "at least 1"),
        ({"max_text": 0}, "at least 1"),
        ({"actions": "x"}, "'calls' or 'webarena'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        plugins.build("env", {"name": "shop", **options})
