"""The solution's side of the channel: run the solution, act on it as the tests ask, and send the results."""

from __future__ import annotations

import builtins
import contextlib
import sys

TYPE_CHECKING = False  # what follows is imported by no process that runs this: each start counts
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from llmrl.sandbox.solution_channel import Channel, Gone, channel, quiet, readable
    from llmrl.sandbox.solution_values import pack, unpack  # whose texts stand before this one's

ABLE = {"call": "__call__", "iter": "__iter__", "next": "__next__", "len": "__len__", "getitem": "__getitem__"}
END = object()
CHANGED = {"list", "dict", "set", "bytearray", "deque", "ndarray"}  # kinds of arguments that a call may change


class SolutionServer:
    """State of the solution's side: its scope, and its objects by number."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        module = type(sys)("solution")
        sys.modules["solution"] = module  # where pickle and dataclasses look for its classes
        self.scope: dict[str, Any] = vars(module)
        self.scope.update(exit=sys.exit, quit=sys.exit)
        self.held: list[Any] = []
        self.changed: dict[str, Any] = {}  # by place or name: the arguments that the last call changed
        self.numbers: dict[int, Any] = {}  # by id: the message for an object, which is held for good

    def serve(self) -> None:
        """Run the solution's source, then act on requests until the channel closes."""
        self.channel.send({"ok": None})  # nothing of the solution has run: what fails from here on is its own doing
        solution = self.channel.receive()
        self._answer(lambda: exec(compile(solution, "<solution>", "exec", dont_inherit=True), self.scope))
        while True:
            request = self.channel.receive()
            self._answer(lambda request=request: self._act(request))  # type: ignore[misc]

    def _answer(self, act: Callable[[], Any]) -> None:
        self.changed = {}
        try:
            told = {"ok": pack(act(), self._other)}
            if self.changed:
                told["changed"] = self.changed
        except Gone:
            raise
        except BaseException as error:
            told = _raised(error)
        self.channel.send(told)

    def _act(self, request: Any) -> Any:
        """Apply one operation to one object of the solution's."""
        of, do = request["of"], request["do"]
        if isinstance(of, str) and of not in self.scope:
            raise NameError(f"the solution defines no {of}")
        target = self.scope[of] if isinstance(of, str) else self.held[of]
        told = {**dict(enumerate(request["args"])), **request["named"]}
        arguments = {key: unpack(arg, self._known) for key, arg in told.items()}
        places = [arguments[n] for n in range(len(request["args"]))]
        if do == "call":
            result = target(*places, **{name: arguments[name] for name in request["named"]})
            if result is None:
                self._compare(told, arguments)
            return result
        doing: dict[str, Any] = {
            "value": lambda thing: thing,
            "getattr": getattr,
            "setattr": setattr,
            "setitem": lambda thing, key, value: thing.__setitem__(key, value),
            "getitem": lambda thing, key: thing[key],
            "len": len,
            "str": str,
            "repr": repr,
            "bool": bool,
            "iter": iter,
            "next": lambda thing: [item for item in (next(thing, END),) if item is not END],
            "kind": lambda thing, value: isinstance(value, thing),
        }
        return doing[do](target, *places)

    def _compare(self, told: dict[Any, Any], arguments: dict[Any, Any]) -> None:
        """Note the arguments that a call has changed."""
        for key, value in arguments.items():
            if type(value).__name__ in CHANGED:
                now = pack(value, self._other)
                if now != told[key]:
                    self.changed[str(key)] = now

    def _other(self, value: Any) -> Any:
        """Number an object, always alike, and list the operations that it supports."""
        if id(value) not in self.numbers:
            self.held.append(value)
            has = {method for kind in type(value).__mro__ for method in vars(kind)}
            can = [name for name, method in ABLE.items() if method in has]
            generator = type(value) is type(_nothing())
            self.numbers[id(value)] = {"held": [len(self.held) - 1, can, generator]}
        return self.numbers[id(value)]

    def _known(self, tag: str, content: Any) -> Any:
        if tag == "held":
            return self.held[content]

        def call(*args: Any) -> Any:
            return self._call_back(content, args)

        def items() -> Iterator[Any]:
            while item := self._call_back(content, ()):
                yield item[0]

        given = items() if tag == "iterator" else call
        self.held.append(given)
        self.numbers[id(given)] = {tag: content}
        return given

    def _call_back(self, number: int, args: Any) -> Any:
        """Call a function of the tests."""
        self.channel.send({"callback": number, "args": [pack(arg, self._other) for arg in args]})
        answer = self.channel.receive()
        if "raise" in answer:
            kind = vars(builtins).get(answer["raise"], RuntimeError)
            try:
                error = kind(answer["said"])
            except TypeError:
                error = RuntimeError(answer["said"])
            raise error
        return unpack(answer["ok"], self._known)


def _nothing() -> Iterator[None]:
    yield


def _raised(error: BaseException) -> dict[str, Any]:
    """Describe an exception: its name, its builtin classes, its text and plain arguments."""
    known = [kind.__name__ for kind in type(error).__mro__ if vars(builtins).get(kind.__name__) is kind]
    plain = all(type(arg) in (str, int, float, bool) for arg in error.args)
    said = readable(error)
    args = [arg[:300] if isinstance(arg, str) else arg for arg in error.args] if plain else [said]
    return {"raise": type(error).__name__, "known": known, "said": said, "args": pack(args, str)}


if __name__ == "__main__":
    quiet().close()
    with contextlib.suppress(Gone):
        SolutionServer(channel()).serve()
