"""The tasks of MiniWoB++ that are used, by kind, and where their pages are."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmrl.errors import BrowserError, DataError
from llmrl.plugins import did_you_mean


def _split(names: str) -> tuple[str, ...]:
    return tuple(names.split())


KINDS: Mapping[str, Sequence[str]] = {
    "click": _split("""
        click-test click-test-2 click-test-transfer click-button click-button-sequence click-link click-dialog
        click-dialog-2 click-widget click-tab click-tab-2 click-tab-2-easy click-tab-2-medium click-tab-2-hard
        click-collapsible click-collapsible-2 click-menu unicode-test focus-text focus-text-2 navigate-tree
        grid-coordinate identify-shape tic-tac-toe"""),
    "choose": _split("""
        click-checkboxes click-checkboxes-large click-checkboxes-transfer click-checkboxes-soft click-option
        click-scroll-list choose-list choose-date choose-date-easy choose-date-medium use-spinner odd-or-even"""),
    "text": _split("""
        enter-text enter-text-2 enter-text-dynamic enter-password enter-date enter-time find-word text-transform
        copy-paste copy-paste-2 scroll-text simple-algebra simple-arithmetic read-table read-table-2 find-greatest
        guess-number"""),
    "form": _split("""
        login-user login-user-popup form-sequence-2 form-sequence-3 multi-layouts multi-orderings search-engine
        use-autocomplete sign-agreement buy-ticket book-flight phone-book"""),
    "mail": _split("""
        email-inbox email-inbox-delete email-inbox-forward email-inbox-nl-turk email-inbox-forward-nl-turk
        email-inbox-important email-inbox-noscroll
        email-inbox-reply email-inbox-star-reply social-media social-media-some social-media-all"""),
}
"""Left out are tasks that animate or read the clock, that ask for a drawing or a drag to a pixel, and those that only a
picture shows: what they ask for is in no text of the page."""
TASKS: Mapping[str, str] = {name: kind for kind, names in KINDS.items() for name in names}
EASY = _split("""
    click-test click-test-2 click-button click-link focus-text enter-text click-checkboxes click-option login-user
    choose-list""")
"""Tasks for a first run: each needs a few actions, and a scripted player solves it."""
STEPS: Mapping[str, int] = {"click": 10, "choose": 25, "text": 10, "form": 25, "mail": 25}
SOFT = frozenset(["click-checkboxes-soft"])  # their reward is a share of what was asked


def expand(names: Sequence[str]) -> list[str]:
    """Tasks by their names, by kinds, `easy` or `all`, each once, in order.

    Raises:
        DataError: a name of none; tells what is close.
    """
    groups = {**KINDS, "easy": EASY, "all": tuple(TASKS)}
    tasks = list(dict.fromkeys(task for name in names for task in groups.get(name, (name,))))
    check_names(tasks)
    return tasks


def check_names(names: Sequence[str], where: str = "tasks") -> None:
    """Refuse names of no task.

    Raises:
        DataError: the first of them, and what is close.
    """
    for name in names:
        if name not in TASKS:
            raise DataError(
                f"{where}: unknown MiniWoB++ task {name!r}{did_you_mean(name, TASKS)}; {len(TASKS)} are used"
            )


def find_pages(given: str) -> Path:
    """The folder of pages: the given one, else that of the installed package `miniwob`, which is not imported.

    Raises:
        BrowserError: it is not there; says how to install it.
    """
    spec = None if given else importlib.util.find_spec("miniwob")
    if not given and (spec is None or spec.origin is None):
        raise BrowserError(
            "the pages of MiniWoB++ are not on this machine: run `pip install --no-deps miniwob==1.1.0`, or set "
            "env.pages to the folder html/miniwob of a copy"
        )
    folder = Path(given) if given else Path(str(spec and spec.origin)).parent / "html" / "miniwob"
    if not (folder / "click-test.html").is_file():
        raise BrowserError(f"{folder}: no pages of MiniWoB++ here; expected the folder that holds click-test.html")
    return folder.resolve()
