"""Two processes that do not trust each other: the first runs a solution, the second runs the tests and calls it.

The tests, and the results they expect, are never in the solution's process: it gets arguments and gives results, and
nothing it does to its own interpreter reaches the comparison. The text of `solution_values.py` and then of this file
is run as a script in both; standard library only.
"""

from __future__ import annotations

import builtins
import json
import os
import sys

TYPE_CHECKING = False  # no process that runs this imports the following: each start counts
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from llmrl.sandbox.solution_values import pack, unpack  # its text stands before this one's

MOST = 4 << 20  # bytes of a message


class Gone(BaseException):
    """The other end closed, or sent nonsense. Not an Exception: no test may catch it."""


class UntoldError(TypeError):
    """A value that cannot be sent to the solution: this way of testing does not offer it to the tests."""


class Channel:
    """Messages, JSON with its length before it."""

    def __init__(self, end: int) -> None:
        self.end = end

    def send(self, message: Any) -> None:
        data = json.dumps(message).encode()
        data = len(data).to_bytes(4, "big") + data
        try:
            while data:
                data = data[os.write(self.end, data) :]
        except OSError:
            raise Gone("the solution's process ended") from None

    def receive(self) -> Any:
        length = int.from_bytes(self._exactly(4), "big")
        if length > MOST:
            raise Gone(f"the solution answered with {length} bytes; expected at most {MOST}")
        try:
            return json.loads(self._exactly(length))
        except (ValueError, RecursionError):
            raise Gone("the solution's process sent what is no answer") from None

    def _exactly(self, length: int) -> bytes:
        parts = []
        while length:
            try:
                part = os.read(self.end, min(length, 1 << 16))
            except OSError:
                part = b""
            if not part:
                raise Gone("the solution's process ended")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


# The solution's side


def serve(channel: Channel) -> None:
    """Run the solution's source, then do what the tests ask of it, until they are done."""
    channel.send({"ok": None})  # nothing of the solution has run: a failure from here on is its own
    solution = channel.receive()
    scope: dict[str, Any] = {"__name__": "solution", "exit": sys.exit, "quit": sys.exit}
    held: list[Any] = []

    def other(value: Any) -> Any:
        held.append(value)
        return {"held": len(held) - 1}

    def known(tag: str, content: Any) -> Any:
        return held[content] if tag == "held" else lambda *args: callback(content, args)

    def callback(number: int, args: Any) -> Any:
        channel.send({"callback": number, "args": [pack(arg, other) for arg in args]})
        answer = channel.receive()
        if "raise" in answer:
            raise RuntimeError(answer["raise"])
        return unpack(answer["ok"], known)

    def load() -> None:
        exec(compile(solution, "<solution>", "exec"), scope)

    def answer(act: Callable[[], Any]) -> None:
        try:
            reply = {"ok": pack(act(), other)}
        except Gone:
            raise
        except BaseException as error:
            reply = {"raise": type(error).__name__, "said": str(error)[:300]}
        channel.send(reply)

    answer(load)
    while True:
        request = channel.receive()
        answer(lambda request=request: act(request, scope, held, known))  # type: ignore[misc]


def act(request: Any, scope: dict[str, Any], held: list[Any], known: Callable[[str, Any], Any]) -> Any:
    """Carry out a request on an object of the solution's."""
    of = request["of"]
    if isinstance(of, str) and of not in scope:
        raise NameError(f"the solution defines no {of}")
    target = scope[of] if isinstance(of, str) else held[of]
    arguments = [unpack(arg, known) for arg in request["args"]]
    if request["do"] == "call":
        return target(*arguments, **{name: unpack(arg, known) for name, arg in request["named"].items()})
    doing: dict[str, Any] = {"getattr": getattr, "setattr": setattr, "len": len, "str": str, "bool": bool, "iter": list}
    return doing.get(request["do"], lambda thing, key: thing[key])(target, *arguments)


# The tests' side


class Proxy:
    """An object of the solution's, by name or number. It equals only itself, whatever its own `__eq__` returns."""

    __slots__ = ("_ask", "_of")

    def __init__(self, ask: Callable[..., Any], of: str | int) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_of", of)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._ask(self._of, "call", args, named)

    def __getattr__(self, name: str) -> Any:
        return self._ask(self._of, "getattr", (name,))

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask(self._of, "setattr", (name, value))

    def __getitem__(self, key: Any) -> Any:
        return self._ask(self._of, "getitem", (key,))

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._ask(self._of, "iter")))

    def __len__(self) -> int:
        return int(self._ask(self._of, "len"))

    def __bool__(self) -> bool:
        return self._ask(self._of, "bool") is True

    def __str__(self) -> str:
        return str(self._ask(self._of, "str"))


class Solution:
    """The solution as the tests call it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.callbacks: list[Any] = []
        self.calls = 0

    def ask(self, of: str | int, do: str, args: Any = (), named: Mapping[str, Any] | None = None) -> Any:
        self.calls += 1
        packed = [pack(arg, self._other) for arg in args]
        self.channel.send(
            {"of": of, "do": do, "args": packed, "named": {k: pack(v, self._other) for k, v in (named or {}).items()}}
        )
        return self.answer()

    def answer(self) -> Any:
        """Receive the solution's result; raise its exception if it raised."""
        try:
            while "callback" in (answer := self.channel.receive()):
                self._call_back(answer)
            if "raise" not in answer:
                return unpack(answer["ok"], self._known)
            name, message = str(answer["raise"]), str(answer["said"])
        except Gone:
            raise
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError, IndexError) as error:
            raise Gone(f"the solution's process sent what is no answer: {error!r}") from None
        kind = vars(builtins).get(name)
        safe = isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError)
        raised: Any = kind(message) if safe else RuntimeError(f"{name}: {message}")  # type: ignore[misc]
        raised.remote = True
        raise raised

    def _call_back(self, answer: Any) -> None:
        """Call a function that the tests gave as an argument."""
        try:
            value = self.callbacks[answer["callback"]](*(unpack(arg, self._known) for arg in answer["args"]))
            reply = {"ok": pack(value, self._other)}
        except Exception as error:
            reply = {"raise": f"{type(error).__name__}: {error}"}
        self.channel.send(reply)

    def _other(self, value: Any) -> Any:
        if isinstance(value, Proxy):
            return {"held": value._of}
        if not callable(value):
            raise UntoldError(f"the tests pass {type(value).__name__}, which cannot be sent to the solution")
        self.callbacks.append(value)
        return {"function": len(self.callbacks) - 1}

    def _known(self, tag: str, content: Any) -> Any:
        if tag != "held" or not isinstance(content, int):
            raise ValueError(f"{tag} is no kind of value")
        return Proxy(self.ask, content)


def judge(channel: Channel, task: Any, say: Callable[[Any], None]) -> None:
    """Load the solution, then run each test; `say` each result at once, so that a time limit loses none."""
    solution = Solution(channel)
    solution.answer()
    say({"ready": True})
    channel.send(task["solution"])
    try:
        solution.answer()
    except Exception as error:
        say({"load": _told(error)})
        return
    scope: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(task["preamble"], "<preamble>", "exec"), scope)
        scope.update({name: Proxy(solution.ask, name) for name in task["names"]})
        exec(compile(task["setup"], "<setup>", "exec"), scope)
    except Exception as error:
        say({"load" if hasattr(error, "remote") else "broken": _told(error)})
        return
    for test in task["tests"]:
        before = solution.calls
        try:
            exec(compile(test, "<test>", "exec"), scope)
        except UntoldError as error:
            say({"broken": _told(error)})
            return
        except Exception as error:
            say({"test": _told(error), "called": True, "raised": hasattr(error, "remote")})
            if task["stop"]:
                return
        else:
            say({"test": "", "called": solution.calls > before})
    say({"end": True})


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300].removesuffix(": ")
    except Exception:
        return type(error).__name__


def main() -> None:
    """`judge FD` with the task on standard input and its report on standard output, or `solution FD`."""
    role, channel = sys.argv[1], Channel(int(sys.argv[2]))
    out = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    task = json.load(sys.stdin) if role == "judge" else None

    def say(message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        if role == "judge":
            judge(channel, task, say)
        else:
            out.close()
            serve(channel)
    except Gone as error:
        if role == "judge":
            say({"gone": str(error)})


if __name__ == "__main__":
    main()
