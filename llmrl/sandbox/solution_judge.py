"""The tests' side of the channel: run the tests on a solution whose objects are only numbers here."""

from __future__ import annotations

import builtins
import json
import sys

TYPE_CHECKING = False  # what follows is imported by no process that runs this: each start counts
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from llmrl.sandbox.solution_channel import Channel, Gone, UntoldError, channel, quiet, readable
    from llmrl.sandbox.solution_values import pack, renew, unpack  # whose texts stand before this one's


class SolutionError(Exception):
    """Exception of the solution's that is none of Python's errors, or that would end an iterator."""


class SolutionExit(BaseException):
    """Exit of the solution, such as SystemExit or KeyboardInterrupt: as in Python, `except Exception` lets it pass."""


class Proxy:
    """An object of the solution's, by its number. It equals only itself, whatever its own `__eq__` returns.

    Calls, iteration and indexing are those of its subclass: see `_able`.
    """

    __slots__ = ("_ask", "_of")
    generator = False

    def __init__(self, ask: Callable[..., Any], of: str | int) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_of", of)

    def __getattr__(self, name: str) -> Any:
        return self._ask(self._of, "getattr", (name,))

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask(self._of, "setattr", (name, value))

    def __bool__(self) -> bool:
        return self._ask(self._of, "bool") is True

    def __str__(self) -> str:
        return str(self._ask(self._of, "str"))

    def __repr__(self) -> str:
        return str(self._ask(self._of, "repr"))

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Proxy) and self._ask(self._of, "kind", (value,)) is True


def _next(self: Any) -> Any:
    items = self._ask(self._of, "next")  # one or none: a StopIteration that the solution raises elsewhere ends nothing
    if type(items) is not list or len(items) != 1:
        raise StopIteration
    return items[0]


END = object()
METHODS: dict[str, tuple[str, Any]] = {
    "call": ("__call__", lambda self, *args, **named: self._ask(self._of, "call", args, named)),
    "iter": ("__iter__", lambda self: self._ask(self._of, "iter")),
    "next": ("__next__", _next),
    "len": ("__len__", lambda self: int(self._ask(self._of, "len"))),
    "getitem": ("__getitem__", lambda self, key: self._ask(self._of, "getitem", (key,))),
}
SUBCLASSES: dict[tuple[frozenset[str], bool], type[Proxy]] = {}
RAISED = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, (StopIteration, StopAsyncIteration, UnicodeError))
    and kind is not Exception
    and "Group" not in name
} | {"UnicodeError": UnicodeError}


def _able(can: frozenset[str], generator: bool) -> type[Proxy]:
    """Make the kind of Proxy that supports just these operations."""
    if (can, generator) not in SUBCLASSES:
        members: dict[str, Any] = {"__slots__": (), **dict(METHODS[name] for name in can)}
        if "getitem" in can:
            members["__setitem__"] = lambda self, key, value: self._ask(self._of, "setitem", (key, value))
        if generator:
            members["__class__"] = type(_ for _ in ())
        SUBCLASSES[can, generator] = type("Proxy", (Proxy,), members)
    return SUBCLASSES[can, generator]


class Solution:
    """The solution as the tests call it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.callbacks: list[Any] = []
        self.proxies: dict[int, Proxy] = {}
        self.calls = 0
        self.gone = ""

    def name(self, name: str) -> Any:
        """Get the solution's value or object of this name; an undefined name raises NameError when it is used."""
        try:
            return self.ask(name, "value")
        except (Exception, SolutionExit):
            return _able(frozenset({"call"}), False)(self.ask, name)

    def ask(self, of: str | int, do: str, args: Any = (), named: Mapping[str, Any] | None = None) -> Any:
        told = [pack(arg, self._other) for arg in args]
        told_named = {key: pack(value, self._other) for key, value in (named or {}).items()}
        self.calls += 1
        self._say({"of": of, "do": do, "args": told, "named": told_named})
        result, changed = self.answer()
        if do == "call" and result is None:
            given = {**{str(n): arg for n, arg in enumerate(args)}, **(named or {})}
            for key, value in changed.items():
                renew(given.get(key), value)
        return result

    def _say(self, message: Any) -> None:
        if self.gone:  # for good, also where a test has caught it
            raise Gone(self.gone)
        try:
            self.channel.send(message)
        except Gone as error:
            self.gone = str(error)
            raise

    def answer(self) -> tuple[Any, dict[str, Any]]:
        """Receive the solution's result and the arguments that it changed; raise its exception if it raised."""
        try:
            while "callback" in (answer := self.channel.receive()):
                self._call_back(answer)
            if "raise" not in answer:
                changed = {str(key): unpack(value, self._known) for key, value in answer.get("changed", {}).items()}
                return unpack(answer["ok"], self._known), changed
            raised = _exception(answer)
        except Gone as error:
            self.gone = str(error)
            raise
        except Exception as error:
            self.gone = f"the solution's process sent what is no answer: {_told(error)}"
            raise Gone(self.gone) from None
        raise raised

    def _call_back(self, answer: Any) -> None:
        """Call a function that the tests gave as an argument."""
        try:
            value = self.callbacks[answer["callback"]](*(unpack(arg, self._known) for arg in answer["args"]))
            told = {"ok": pack(value, self._other)}
        except (Exception, SolutionExit) as error:  # the text of an assertion may hold the expected result
            said = "" if isinstance(error, AssertionError) else readable(error)
            told = {"raise": type(error).__name__, "said": said}
        self._say(told)

    def _other(self, value: Any) -> Any:
        if isinstance(value, Proxy):
            return {"held": value._of}
        if hasattr(type(value), "__next__"):
            self.callbacks.append(lambda: [item for item in (next(value, END),) if item is not END])
            return {"iterator": len(self.callbacks) - 1}
        if not callable(value):
            raise UntoldError(f"the tests pass {type(value).__name__}, which cannot be sent to the solution")
        self.callbacks.append(value)
        return {"function": len(self.callbacks) - 1}

    def _known(self, tag: str, content: Any) -> Any:
        if tag == "function":
            return self.callbacks[content]
        if tag != "held":
            raise ValueError(f"{tag} is no kind of value")
        number, can, generator = content
        if not isinstance(number, int):
            raise ValueError(f"{number} is no number of a thing")
        if number not in self.proxies:
            able = frozenset(name for name in can if name in METHODS)
            self.proxies[number] = _able(able, generator is True and "next" in able)(self.ask, number)
        return self.proxies[number]


def _exception(answer: Any) -> BaseException:
    """Convert the solution's exception to Python's own of that kind; to one of ours if Python has no such error."""
    name, said, known = str(answer["raise"]), str(answer["said"]), [str(kind) for kind in answer["known"]]
    text = name if not said else f"{name}: {said}"
    error: BaseException = SolutionError(text) if "Exception" in known else SolutionExit(text)
    kind = next((RAISED[base] for base in known if base in RAISED), None)
    if kind is not None:
        try:
            error = kind(*unpack(answer["args"], lambda tag, content: tag)) if known[0] == name else kind(said)
        except Exception:
            error = kind(said)
    error.remote = True  # type: ignore[attr-defined]
    return error


def judge(channel: Channel, task: Any, say: Callable[[Any], None]) -> None:
    """Load the solution, then run each test; `say` each result at once, so that a time limit loses none."""
    solution = Solution(channel)
    solution.answer()
    say({"ready": True})
    channel.send(task["solution"])
    try:
        solution.answer()
    except (Exception, SolutionExit) as error:
        say({"load": _told(error)})
        return
    scope: dict[str, Any] = {"__name__": "tests"}
    used = 0
    try:
        exec(compile(task["preamble"], "<preamble>", "exec", dont_inherit=True), scope)
        scope.update({name: solution.name(name) for name in task["names"]})
        used = solution.calls
        exec(compile(task["setup"], "<setup>", "exec", dont_inherit=True), scope)
    except (Exception, SolutionExit) as error:  # a setup that used the solution may fail because of it
        say({"load" if solution.calls > used > 0 else "broken": _told(error)})
        return
    for test in task["tests"]:
        if not _passes(test, scope, solution, say) and task["stop"]:
            return
    say({"end": True})


def _passes(test: str, scope: dict[str, Any], solution: Solution, say: Callable[[Any], None]) -> bool:
    before = solution.calls
    told: dict[str, Any] = {"test": ""}
    try:
        exec(compile(test, "<test>", "exec", dont_inherit=True), scope)
    except (Exception, SolutionExit) as error:
        if isinstance(error, UntoldError) and solution.calls == before:  # of values that do not come from the solution
            say({"broken": _told(error)})
            raise Gone("the tests are broken") from None
        told = {"test": _told(error), "raised": hasattr(error, "remote")}
    if solution.gone:
        raise Gone(solution.gone)
    say({**told, "called": bool(told["test"]) or solution.calls > before})
    return not told["test"]


def _told(error: BaseException) -> str:
    kind = "" if isinstance(error, (SolutionError, SolutionExit)) else f"{type(error).__name__}: "
    return f"{kind}{readable(error)}"[:300].removesuffix(": ")


def main() -> None:
    """Read the task from standard input, and write the report to standard output."""
    out = quiet()
    task = json.load(sys.stdin)

    def say(message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        judge(channel(), task, say)
    except Gone as error:
        say({"gone": str(error)})


if __name__ == "__main__":
    main()
