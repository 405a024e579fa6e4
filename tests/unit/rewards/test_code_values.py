"""Right programs are accepted where a plain test of Python accepts them; programs that only deceive it are not."""

from __future__ import annotations

import json
from collections import deque
from datetime import time, timedelta
from typing import Any

import numpy
import pytest

from llmrl.rewards.code import Code
from llmrl.sandbox.interpreter import open_to_all
from llmrl.sandbox.run import available
from llmrl.sandbox.solution_values import pack, renew, unpack
from llmrl.types import Problem, Score

REWARD = Code(timeout_s=60.0, min_level="subprocess")  # a machine may be busy


def grade(source: str, *tests: str, setup: str = "") -> Score:
    info = {"tests": list(tests), "entry_point": "f", "setup": setup}
    return REWARD(Problem(id="p", messages=(), info=info), f"```python\n{source}\n```")


RIGHT = {
    "sorts in place": ("def f(xs): xs.sort()", "xs = [3, 1]\nassert f(xs) is None and xs == [1, 3]"),
    "rows in place": (
        "def f(m):\n    for row in m: row.reverse()\n    m.append([5])",
        "m = [[1, 2], [3]]\nrow = m[0]\nf(m)\nassert m == [[2, 1], [3], [5]] and row == [2, 1]",
    ),
    "a dictionary by its name": ("def f(*, d): d['a'][0] += 1", "d = {'a': [1]}\nf(d=d)\nassert d == {'a': [2]}"),
    "sets and bytes": (
        "def f(s, b):\n    s.discard(1)\n    b += b'!'",
        "s, b = {1, 2}, bytearray(b'a')\nf(s, b)\nassert (s, b) == ({2}, b'a!')",
    ),
    "a generator": ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]", "assert sum(f(3)) == 3"),
    "an endless generator": (
        "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
        "from itertools import islice\nassert list(islice(f(), 3)) == [0, 1, 2]",
        "g = f()\nassert next(g) == 0 and next(g) == 1",
        "import types\nassert isinstance(f(), types.GeneratorType)",
    ),
    "an iterator that ends": (
        "def f(): return iter([1])",
        "it = f()\nassert next(it) == 1\ntry:\n    next(it)\n    assert False\nexcept StopIteration: pass",
    ),
    "iterators as arguments": ("def f(it): return [next(it), *it]", "assert f(iter('abc')) == ['a', 'b', 'c']"),
    "views of a dictionary": ("def f(d): return d.keys()", "assert f({1: 2}) == {1} and list(f({2: 1})) == [2]"),
    "its own exceptions": (
        "class Short(ValueError): pass\ndef f(x):\n    raise Short('of money', x)",
        "try:\n    f(1)\n    assert False\nexcept ValueError as e: assert 'of money' in str(e)",
    ),
    "errors with numbers": (
        "def f(path): open(path)",
        "try:\n    f('none')\n    assert False\nexcept FileNotFoundError as e: assert e.errno == 2",
    ),
    "objects with themselves": (
        "class N: pass\nn = N()\nn.next = n\ndef f(): return n",
        "assert f() is f() and f().next is f()",
        "assert isinstance(f(), N) and not isinstance(3, N)",
    ),
    "constants": ("N = 3\ndef f(): return N", "assert f() == N == 3"),
    "pickles and annotations": (
        "import pickle\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def f(): return pickle.loads(pickle.dumps(P(3))).x if P.__annotations__ == {'x': int} else 0",
        "assert f() == 3",
    ),
    "queues": (
        "from collections import deque\ndef f(q):\n    q.rotate(1)",
        "from collections import deque\nq = deque([1, 2], 2)\nf(q)\nassert q == deque([2, 1])",
    ),
    "functions given back": ("def f(g): return g", "g = lambda: 7\nassert f(g) is g and f(g)() == 7"),
    "slices": (
        "class S:\n    def __getitem__(self, key): return [1, 2, 3][key]\ndef f(): return S()",
        "assert f()[1:] == [2, 3]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_programs_are_accepted(name: str) -> None:
    source, *tests = RIGHT[name]
    info = {"test_list": tests, "code": source}
    score = REWARD(Problem(id="p", messages=(), info=info), f"```python\n{source}\n```")
    assert score.value == 1.0, score.reason


WRONG = {
    "empties what it is compared with": (
        "def f(xs):\n    xs.clear()\n    return []",
        "xs = [2, 1]\nassert sorted(f(xs)) == sorted(xs)",
    ),
    "a StopIteration in a map": ("def f(x): raise StopIteration", "assert all(map(lambda x: f(x) == 1, [1, 2]))"),
    "SystemExit where an Exception is expected": (
        "def f(): raise SystemExit",
        "try:\n    f()\nexcept Exception: pass\nelse: assert False",
    ),
    "a callable by accident": ("def f(): return object()", "assert callable(f())"),
    "an iterable by accident": ("def f(): return object()", "assert hasattr(f(), '__iter__')"),
    "a dead process where all is caught": (
        "import os\ndef f(): os._exit(0)",
        "try:\n    f()\nexcept: pass\nelse: assert False",
    ),
    "numbers by operators": (
        "class Z:\n    def __sub__(self, other): return 0\n    __rsub__ = __sub__\ndef f(): return Z()",
        "assert abs(f() - 3) < 1e-6",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_only_deceives_is_not(name: str) -> None:
    assert grade(*WRONG[name]).value == 0.0


def test_a_stop_in_a_callback_is_one_to_the_solution() -> None:
    source = "def f(g):\n    try: g()\n    except StopIteration: return 1"
    assert grade(source, "def g(): raise StopIteration\nassert f(g) == 1").value == 1.0


def test_what_an_assertion_of_the_tests_says_stays_with_them() -> None:
    source = "def f(g):\n    try: g(1)\n    except AssertionError as e: return str(e)"
    told = grade(source, "def g(x): assert x == 2, 'it is 2'\nassert f(g) == 'it is 2'")
    assert told.value == 0.0


@pytest.mark.parametrize("source", ["def f(): return None", "def f(): raise MemoryError", "def f(): raise SystemExit"])
def test_what_breaks_the_setup_is_the_solutions_fault(source: str) -> None:
    info = {"test_list": ["assert f()"], "test_setup_code": "f().append(3)", "code": "def f(): return []"}
    score = REWARD(Problem(id="p", messages=(), info=info), f"```python\n{source}\n```")
    assert (score.value, score.verdict) == (0.0, "wrong")


def test_what_a_solution_makes_the_tests_pass_on_is_its_own_fault() -> None:
    source = "class S:\n    def __getitem__(self, key): return self\ndef f(*a): return S()"
    score = grade(source, "import io\nassert f(f()[0][io.StringIO()]) == 3")
    assert (score.value, score.verdict) == (0.0, "wrong")


NUMPY = [
    level for level, why in available().items() if not why and (level != "uid" or open_to_all(("numpy",)).packages)
]


@pytest.mark.parametrize("level", NUMPY)
def test_numpy_is_there(level: Any) -> None:
    source = "import numpy as np\ndef f(xs): return np.array(xs) * 2\ndef g(xs): return np.sum(xs)"
    tests = ["import numpy as np\nassert (f([1, 2]) == np.array([2, 4])).all()", "assert f([1]).shape == (1,)"]
    info = {"test_list": [*tests, "assert g([1, 2]) == 3"], "code": source}
    reward = Code(timeout_s=60.0, min_level="subprocess", level=level)
    score = reward(Problem(id="p", messages=(), info=info), f"```python\n{source}\n```")
    assert score.value == 1.0, score.reason


def test_other_packages_are_not() -> None:
    assert "No module named 'torch'" in grade("import torch\ndef f(): pass", "f()").reason


def test_a_missing_package_is_named() -> None:
    with pytest.raises(Exception, match="package no_such_thing is not installed"):
        Code(min_level="subprocess", packages=("no_such_thing",))(
            Problem(id="p", messages=(), info={"tests": ["f()"], "entry_point": "f"}), "```python\nx\n```"
        )


VALUES = [
    bytearray(b"a"), deque([1, [2]], 3), time(1, 2), timedelta(days=-1, seconds=2), slice(1, None, 2), {1: 2}.keys(),
    numpy.arange(6).reshape(2, 3), numpy.array(["é", "ab"]), numpy.array([1 + 2j]), numpy.float32(0.5),
    numpy.bool_(True),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_more_values_cross_the_wall(value: Any) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError(args)

    crossed = unpack(json.loads(json.dumps(pack(value, refuse))), refuse)
    assert type(crossed) is type(value)
    assert numpy.array_equal(crossed, value) if isinstance(value, numpy.ndarray) else crossed == value


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["|O", [1], [1]], "no kind of number"),
        (["V9", [], [1]], "no kind of number"),
        (["<f8", [3], [1]], "cannot reshape"),
        (["<f8", [1], ["x"]], "could not convert"),
    ],
)
def test_arrays_of_nonsense_are_refused(told: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack({"numpy": told}, lambda tag, content: content)


def test_containers_are_renewed_in_place() -> None:
    inner = [1]
    old: list[Any] = [inner, 2, {"a": inner}]
    assert renew(old, [[3, 4], 2, {"a": [5]}, 6])
    assert old == [[5], 2, {"a": [5]}, 6]
    assert old[0] is inner
    assert not renew([1], (1,))
    assert not renew(1, 1)


def test_a_time_limit_is_a_wrong_answer_and_says_so() -> None:
    reward = Code(timeout_s=3.0, min_level="subprocess")
    info = {"tests": ["assert f() == 1"], "entry_point": "f"}
    score = reward(Problem(id="p", messages=(), info=info), "```python\ndef f():\n    while True: pass\n```")
    assert (score.value, score.verdict) == (0.0, "wrong")
    assert score.reason.startswith("the solution took longer than 3 s")


def test_a_sandbox_that_died_at_its_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []
    tested = Code._tested

    def dies_once(self: Code, tests: Any, source: str, left_s: float) -> Any:
        tried.append(left_s)
        said, results, outcomes = tested(self, tests, source, left_s)
        return ({}, [], outcomes) if len(tried) == 1 else (said, results, outcomes)

    monkeypatch.setattr(Code, "_tested", dies_once)
    assert grade("def f(): return 1", "assert f() == 1").value == 1.0
    assert tried[1] < tried[0] == 60.0


def test_reasons_are_unicode() -> None:
    reason = grade("def f(): raise ValueError('\\ud800')", "f()").reason
    assert reason.encode().decode() == reason
