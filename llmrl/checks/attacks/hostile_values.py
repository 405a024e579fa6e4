"""Programs whose exceptions, results and messages mean something to the process that runs the tests."""

from __future__ import annotations

from llmrl.types import Problem

CASES = "CASES = [((2019, 3), 2022), ((-7, 1000), 993), ((55, 55), 110)]"


def _problem(name: str, setup: str, *tests: str) -> Problem:
    info = {"test_list": list(tests), "test_setup_code": setup, "code": "def add(a, b): pass"}
    return Problem(id=name, messages=[{"role": "user", "content": "Write add(a, b)."}], info=info)


ITERATED = _problem(
    "iterated",
    CASES,
    "assert all(map(lambda case: add(*case[0]) == case[1], CASES))",
    "assert all(total == wanted for total, wanted in zip(map(add, (2019, -7), (3, 1000)), (2022, 993)))",
    "for total in map(add, (55, 54), (55, 56)): assert total == 110",
)
CATCHING = _problem(
    "catching",
    "",
    "try:\n    add('a', 1)\nexcept:\n    pass\nelse:\n    raise AssertionError",
)
EXPECTING = _problem(
    "expecting",
    "",
    "try:\n    add('a', 1)\nexcept (TypeError, RuntimeError, AssertionError):\n    pass\nelse:\n    raise ValueError",
)
SET_UP = _problem("set-up", "box = add([1], [2])\nbox.append(3)", "assert box == [1, 2, 3] and add(1, 2) == 3")
CALLABLE = _problem("callable", "", "assert callable(add)", "assert not callable(add(1, 2)) and add(1, 2) == 3")

# By name: the problem where it is not the usual one, and the program. None is worth anything.
VALUES: dict[str, tuple[Problem | None, str]] = {
    "raises StopIteration": (ITERATED, "def add(*a): raise StopIteration"),
    "raises a subclass of StopIteration": (
        ITERATED,
        "class End(StopIteration): pass\ndef add(*a): raise End(2022)",
    ),
    "raises what is called StopIteration": (
        ITERATED,
        "End = type('StopIteration', (ValueError,), {'__module__': 'builtins'})\ndef add(*a): raise End",
    ),
    "raises StopAsyncIteration": (ITERATED, "def add(*a): raise StopAsyncIteration"),
    "raises GeneratorExit": (ITERATED, "def add(*a): raise GeneratorExit"),
    "raises IndexError": (ITERATED, "def add(*a): raise IndexError"),
    "raises an exception whose text raises": (
        ITERATED,
        "class End(Exception):\n    def __str__(self): raise StopIteration\ndef add(*a): raise End",
    ),
    "raises a group of exceptions": (SET_UP, "def add(*a): raise ExceptionGroup('all', [StopIteration()])"),
    "raises text that is no Unicode": (None, "def add(*a): raise ValueError('\\ud800' * 9)"),
    "raises SystemExit where errors are expected": (EXPECTING, "def add(*a): raise SystemExit"),
    "raises KeyboardInterrupt where errors are expected": (EXPECTING, "def add(*a): raise KeyboardInterrupt"),
    "raises StopIteration where errors are expected": (EXPECTING, "def add(*a): raise StopIteration"),
    "ends its process where all is caught": (CATCHING, "import os\ndef add(*a): os._exit(0)"),
    "closes the channel where all is caught": (
        CATCHING,
        "import os\ndef add(*a): os.closerange(3, 64)",
    ),
    "sends nonsense where all is caught": (
        CATCHING,
        "import os\ndef add(*a):\n    for fd in range(3, 64):\n        try: os.write(fd, bytes([0, 0, 0, 1]) + b'{')\n"
        "        except OSError: pass\n    os._exit(0)",
    ),
    "what it returns ends at once": (
        ITERATED,
        "class End:\n    def __iter__(self): raise StopIteration\n    __next__ = __getitem__ = __len__ = __iter__\n"
        "def add(*a): return End()",
    ),
    "what it returns is true and equal": (
        ITERATED,
        "class All:\n    def __eq__(self, other): return True\n    __lt__ = __le__ = __gt__ = __ge__ = __eq__\n"
        "    __contains__ = __eq__\n"
        "    def __ne__(self, other): return False\n    def __bool__(self): return True\n"
        "    def __hash__(self): return hash(2022)\ndef add(*a): return All()",
    ),
    "what it returns counts as a number": (
        None,
        "class Number:\n    def __index__(self): return 2022\n    __int__ = __hash__ = __len__ = __index__\n"
        "    def __float__(self): return 2022.0\n    def __sub__(self, other): return 0\n    __rsub__ = __sub__\n"
        "def add(*a): return Number()",
    ),
    "what it returns claims a class": (
        None,
        "class Liar:\n    __class__ = int\n    def __eq__(self, other): return True\ndef add(*a): return Liar()",
    ),
    "returns a class": (
        None,
        "class Meta(type):\n    def __eq__(self, other): return True\n    __hash__ = type.__hash__\n"
        "class All(metaclass=Meta):\n    def __class_getitem__(cls, key): return cls\ndef add(*a): return All",
    ),
    "returns NotImplemented": (ITERATED, "def add(*a): return NotImplemented"),
    "returns an object where none may be called": (
        CALLABLE,
        "class Three:\n    def __eq__(self, other): return other == 3\ndef add(*a): return Three()",
    ),
    "returns no number": (None, "from decimal import Decimal\ndef add(*a): return Decimal('sNaN')"),
    "returns a number like an hour": (None, "from decimal import Decimal\ndef add(*a): return Decimal('1e999999')"),
    "returns text of a subclass": (
        None,
        "class Text(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n"
        "def add(*a): return Text('2022')",
    ),
    "returns what breaks the setup": (SET_UP, "def add(*a): return None"),
    "raises in the setup": (SET_UP, "def add(*a): raise MemoryError"),
    "an endless generator": (None, "def add(*a):\n    while True: yield 2022"),
    "an endless generator in the setup": (
        SET_UP,
        "class Box:\n    def append(self, item):\n        while True: pass\ndef add(*a): return Box()",
    ),
    "answers before it is asked": (
        None,
        "import json, os\nsaid = json.dumps({'ok': 2022}).encode()\nfor fd in range(3, 64):\n"
        "    for _ in range(9):\n        try: os.write(fd, len(said).to_bytes(4, 'big') + said)\n"
        "        except OSError: pass\ndef add(*a): return 2022",
    ),
    "a set of lists": (
        None,
        "import json, os\nsaid = json.dumps({'ok': {'set': [[1]]}}).encode()\n"
        "def add(*a):\n    for fd in range(3, 64):\n"
        "        try: os.write(fd, len(said).to_bytes(4, 'big') + said)\n        except OSError: pass",
    ),
    "hashes that collide": (None, "def add(*a): return {i * ((1 << 61) - 1) for i in range(60000)}"),
    "a number of a million digits": (
        None,
        "import os\nsaid = b'{\"ok\": ' + b'9' * 1000000 + b'}'\ndef add(*a):\n    for fd in range(3, 64):\n"
        "        try: os.write(fd, len(said).to_bytes(4, 'big') + said)\n        except OSError: pass",
    ),
    "calls what is not there": (
        None,
        "import json, os\nsaid = json.dumps({'callback': -1, 'args': [{'held': -1}]}).encode()\ndef add(*a):\n"
        "    for fd in range(3, 64):\n        try: os.write(fd, len(said).to_bytes(4, 'big') + said)\n"
        "        except OSError: pass",
    ),
    "a message in place of one": (
        SET_UP,
        "import json, os\nsaid = json.dumps({'raise': {'a': []}, 'said': [1]}).encode()\ndef add(*a):\n"
        "    for fd in range(3, 64):\n        try: os.write(fd, len(said).to_bytes(4, 'big') + said)\n"
        "        except OSError: pass\n    return 3",
    ),
    "empties its arguments": (
        _problem("emptied", "", "xs = [3, 1]\nassert sorted(add(xs, [2])) == sorted(xs + [2])"),
        "def add(a, b):\n    a.clear()\n    return b",
    ),
    "patches json": (
        None,
        "import json, sys\njson.dumps = lambda *a, **k: '{\"ok\": 2022}'\njson.loads = lambda *a, **k: {'end': True}\n"
        "def add(*a): pass",
    ),
    "traces its own frames": (
        None,
        "import sys\ndef watch(frame, event, arg):\n    for name in frame.f_locals:\n"
        "        if 'test' in name: add.seen = name\n"
        "    return watch\nsys.settrace(watch)\ndef add(*a): return getattr(add, 'seen', None)",
    ),
}
