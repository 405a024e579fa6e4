"""The shape of the code, by the rules of benchmarks/house.py: each figure is within its limit, and each rule bites."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark_modules import load

ROOT = Path(__file__).parents[2]


house = load("house")


@pytest.fixture(scope="module")
def tree() -> list[object]:
    return list(house.read(ROOT))


@pytest.mark.parametrize("name", house.RULES)
def test_the_house_keeps_its_rules(name: str, tree: list[object]) -> None:
    rule = house.RULES[name]
    entries = rule.list(tree)
    assert len(entries) <= rule.limit, "\n".join([f"{name}: at most {rule.limit}", *entries])


LONG = "def f():\n" + "    x = 1\n" * 60
BITES = {
    "files at llmrl/'s root": ({f"llmrl/m{number}.py": "" for number in range(12)}, 12),
    "underscored files among plug-ins": ({"rewards/judge/_prompt.py": "", "data/tiny/_rows.py": ""}, 1),
    "imports across a border into a _ module": (
        {"llmrl/ops/_a.py": "", "llmrl/ops/b.py": "import llmrl.ops._a", "llmrl/c.py": "from llmrl.ops import _a"},
        1,
    ),
    "circles between modules": (
        {
            "llmrl/a.py": "if TYPE_CHECKING:\n    from llmrl import b",
            "llmrl/b.py": "from llmrl.c import x",
            "llmrl/c.py": "import llmrl.a",
            "llmrl/d.py": "import llmrl.e",
            "llmrl/e.py": "def f():\n    import llmrl.d",  # late: no circle
        },
        1,
    ),
    "functions past 60 lines": ({"llmrl/a.py": LONG, "llmrl/b.py": LONG[: -len("    x = 1\n")]}, 1),
    "files past 350 lines, outside tests": ({"eval/a.py": "\n" * 351, "eval/b.py": "\n" * 350}, 1),
    "test files past 400 lines": ({"tests/a.py": "\n" * 401, "tests/b.py": "\n" * 400}, 1),
    "`assert ... is not None` in algorithms": (
        {"llmrl/algorithms/a.py": "assert x is not None\nassert x", "llmrl/b.py": "assert x is not None"},
        1,
    ),
    "names shared by two public classes": (
        {"llmrl/a.py": "class A: pass\nclass _B: pass", "data/b.py": "class A: pass\nclass _B: pass"},
        1,
    ),
    "docstrings by first word": (
        {"llmrl/a.py": '"""Whether it is."""\ndef f():\n    "One: it."\nclass C:\n    "Ones that count."'},
        2,
    ),
}


@pytest.mark.parametrize("name", house.RULES)
def test_the_rule_bites(name: str, tmp_path: Path) -> None:
    texts, expected = BITES[name]
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    entries = house.RULES[name].list(house.read(tmp_path))
    assert len(entries) == expected, entries
