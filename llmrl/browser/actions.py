"""Actions of a policy on a page: two grammars in which it writes them, one value that they become."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmrl.answers.thoughts import after_thoughts

Grammar = Literal["calls", "webarena"]
LONGEST = 256  # characters of a string
LINES = 100  # of a message, from its end: nobody writes an action before so many others
_STRING = r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\''
_ARGUMENT = rf"(?:\w+\s*=\s*)?(?:-?(?:0|[1-9][0-9]{{0,8}})|None|{_STRING})"
_CALL = re.compile(rf"([a-z_]+)\(\s*((?:{_ARGUMENT})(?:\s*,\s*{_ARGUMENT})*)?\s*,?\s*\)\s*(?:#.*)?", re.ASCII)
_LIKE_A_CALL = re.compile(r"[A-Za-z_]+\s*\(")
_UNKNOWN_ESCAPE = re.compile(r"\\([^\\'\"nrt])")  # Python warns of some; a policy means the two characters


class ActionError(ValueError):
    """A message holds no action that can be read; says why, for the policy to read."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action. `Action("type", 5, "Ann")` types into the element that the page numbers 5."""

    name: str
    ref: int | None = None  # element; 0: the page
    text: str = ""  # typed, chosen, pressed, answered; up or down
    to: int | None = None  # where a drag ends


@dataclass(frozen=True, slots=True)
class PageCall:
    """A call as it stands in a line: `do(action="Click", element="7")`."""

    name: str
    given: Sequence[int | str | None]
    named: Mapping[str, int | str | None]


def read_action(text: str, grammar: Grammar) -> Action:
    """The last action in a message, behind its thoughts.

    Raises:
        ActionError: there is none; says what is wrong with the last line that looks like one.
    """
    read = READERS[grammar]
    latest: ActionError | None = None
    for line in reversed(after_thoughts(text)[-LINES * 1000 :].splitlines()[-LINES:]):
        bare = line.strip().strip("`").strip()
        if not _LIKE_A_CALL.match(bare):
            continue
        try:
            return read(read_call(bare))
        except ActionError as error:
            latest = latest or error
    raise latest or ActionError("no action in the last message")


def read_call(line: str) -> PageCall:
    """Read a line that is a call with integers and strings, by position or by name.

    Raises:
        ActionError: it is none, or a string is too long.
    """
    match = _CALL.fullmatch(line[: 8 * LONGEST])
    if match is None:
        raise ActionError(f"cannot read {line[:80]!r}")
    try:
        tree = ast.parse(_UNKNOWN_ESCAPE.sub(r"\\\\\1", match[0]), mode="eval").body
    except (SyntaxError, ValueError) as error:  # such as a NUL
        raise ActionError(f"cannot read {line[:80]!r}: {error}") from None
    assert isinstance(tree, ast.Call)
    given = [ast.literal_eval(value) for value in tree.args]
    named = {word.arg or "": ast.literal_eval(word.value) for word in tree.keywords}
    if len(named) < len(tree.keywords):
        raise ActionError(f"cannot read {line[:80]!r}: a name is given twice")
    if any(len(str(value)) > LONGEST for value in [*given, *named.values()]):
        raise ActionError(f"a string of {match[1]} is longer than {LONGEST} characters")
    return PageCall(match[1], given, named)


_FORMS: Mapping[str, str] = {  # i: element, p: element or 0 for the page, s: string, d: up or down
    "click": "i",
    "dblclick": "i",
    "hover": "i",
    "type": "is",
    "clear": "i",
    "select": "is",
    "press": "s",
    "scroll": "pd",
    "drag": "ii",
    "wait": "",
    "back": "",
    "forward": "",
    "stop": "s",
}
_WORDS = {"i": "REF", "p": "REF or 0", "s": '"TEXT"', "d": '"up" or "down"'}
CALLS_HELP = """\
Reply with one action on the last line. REF is the number of an element in square brackets.
click(REF)  dblclick(REF)  hover(REF)  type(REF, "TEXT")  clear(REF)  select(REF, "OPTION")  press("KEY")
scroll(REF or 0, "up" or "down")  drag(REF, REF)  wait()  back()  forward()  stop("ANSWER")
KEY is a character, or Enter, Tab, Escape, Backspace, Delete, Home, End, ArrowUp, ArrowDown, ArrowLeft, ArrowRight, or
one with Control+ or Shift+ before it. stop ends the task; its answer may be empty."""


def from_call(call: PageCall) -> Action:
    """An action in our own grammar: `click(3)`, `type(5, "Ann")`.

    Raises:
        ActionError: no such action, or other arguments than it takes.
    """
    form = _FORMS.get(call.name)
    if form is None:
        raise ActionError(f"unknown action {call.name}; known: {', '.join(_FORMS)}")
    given = [*call.given, ""] if call.name == "stop" and not call.given else list(call.given)
    fits = not call.named and len(given) == len(form) and all(map(_fits, form, given))
    if not fits:
        raise ActionError(f"expected {call.name}({', '.join(_WORDS[kind] for kind in form)})")
    numbers = [value for value in given if isinstance(value, int)]
    text = next((value for value in given if isinstance(value, str)), "")
    return Action(call.name, numbers[0] if numbers else None, text, numbers[1] if numbers[1:] else None)


def _fits(kind: str, value: int | str | None) -> bool:
    if kind in "ip":
        return isinstance(value, int) and value >= (kind == "i")
    return isinstance(value, str) and (kind == "s" or value in ("up", "down"))


WEBARENA_HELP = """\
You browse a web page to fulfil an instruction. You are given its simplified html and reply with one line of code:
do(action="Click", element="7"), with an action among Click, Right Click, Type, Search, Hover, Scroll Up, Scroll Down,
Press Enter, Switch Tab, Select Dropdown Option, Wait. Type, Search and Select Dropdown Option take argument="...".
Search is Type and then Enter. Scrolling, Press Enter and Wait need no element. Further: go_backward(), go_forward(),
and exit(message="...") when the task is done, with the answer if it asks for one. Lines before it may be comments:
# Element: what you choose, # Note: what to remember."""
WEBARENA: Mapping[str, str] = {
    "Click": "click",
    "Right Click": "rightclick",
    "Type": "retype",
    "Search": "search",
    "Hover": "hover",
    "Scroll Up": "scroll",
    "Scroll Down": "scroll",
    "Press Enter": "press",
    "Switch Tab": "switch",
    "Select Dropdown Option": "select",
    "Wait": "wait",
}
_NEED_ELEMENT = frozenset(["click", "rightclick", "retype", "search", "hover", "select"])
_NEED_ARGUMENT = frozenset(["retype", "search", "select", "switch"])


def from_webarena(call: PageCall) -> Action:
    """An action in the grammar of WebArena-Lite: `do(action="Click", element="7")`, `exit(message="42")`.

    Raises:
        ActionError: no such action, or other arguments than it takes.
    """
    if call.name in ("go_backward", "go_forward") and not call.given and not call.named:
        return Action("back" if call.name == "go_backward" else "forward")
    if call.name == "exit" and set(call.named) <= {"message"} and len(call.given) + len(call.named) <= 1:
        return Action("stop", text=str(call.named.get("message", (*call.given, "")[0])))
    if call.name != "do":
        raise ActionError(f"unknown function {call.name}; known: do, exit, go_backward, go_forward")
    named = dict(zip(("action", "argument", "element"), call.given, strict=False)) | dict(call.named)
    named = {key: value for key, value in named.items() if value is not None}
    if len(call.given) > 3 or set(named) - {"action", "argument", "element"}:
        raise ActionError("do takes action, argument and element")
    name = WEBARENA.get(str(named.get("action")))
    if name is None:
        raise ActionError(f"unknown action {named.get('action')!r}; known: {', '.join(WEBARENA)}")
    element, argument = str(named.get("element", "")), str(named.get("argument", ""))
    if name in _NEED_ELEMENT and not re.fullmatch(r"[0-9]{1,9}", element):
        raise ActionError(f'{named["action"]} takes the number of an element, such as element="7"')
    if name in _NEED_ARGUMENT and "argument" not in named:
        raise ActionError(f'{named["action"]} takes argument="..."')
    if name == "switch":
        raise ActionError("there is only one tab")
    if name == "scroll":
        return Action("scroll", 0, "up" if named["action"] == "Scroll Up" else "down")
    return Action(name, int(element) if name in _NEED_ELEMENT else None, "Enter" if name == "press" else argument)


READERS: Mapping[Grammar, Callable[[PageCall], Action]] = {"calls": from_call, "webarena": from_webarena}
HELP: Mapping[Grammar, str] = {"calls": CALLS_HELP, "webarena": WEBARENA_HELP}
