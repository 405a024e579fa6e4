"""Search/replace blocks: read from real forms of text, written, applied to lines."""

from __future__ import annotations

import random

import pytest

from llmrl.swe.edits import Edit, edits_between, read_edits, write_edits
from llmrl.swe.replace import replaced, replaced_strictly
from llmrl.swe.tree import ChangeError, Files

PLAIN = [Edit("src/a.py", ("x = 1",), ("x = 2",))]
BLOCK = "<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE"


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n### src/a.py\n{BLOCK}\n```",
        f"<think>### b.py\n{BLOCK}</think>\n<solution>\n```\n### src/a.py\n{BLOCK}\n```\n</solution> ### c.py",
        f"### src/a.py\n{BLOCK}",
        f"### src/a.py\n\n```python\n{BLOCK}\n```",
        f"Here it is.\n\n**File:** `src/a.py`:\n```diff\n{BLOCK}\n```\nDone.",
        f"**src/a.py**\n```\n{BLOCK}\n```",
        f"1. `src/a.py`\n\n```python\n{BLOCK}\n```",
        f"src/a.py\n```python\n{BLOCK}\n```",
        f"```python\nsrc/a.py\n{BLOCK}\n```",
        f"```python src/a.py\n{BLOCK}\n```",
        f"```python:src/a.py\n{BLOCK}\n```",
        f"```src/a.py\n{BLOCK}\n```",
        f"```python\n# src/a.py\n{BLOCK}\n```",
        f"```python\n// File: src/a.py\n{BLOCK}\n```",
        f"### src/a.py\n{BLOCK}".replace("\n", "\r\n"),
        "### src/a.py\n<<<<< search\nx = 1\n=====\nx = 2\n>>>>> replace",
        "### src/a.py\n  <<<<<<< SEARCH  \nx = 1\n======= \nx = 2\n>>>>>>> REPLACE```",
        "### src/a.py\n<<<<<<< ORIGINAL\nx = 1\n=======\nx = 2\n>>>>>>> UPDATED",
        "### src/a.py\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>>",
    ],
)
def test_a_block_is_read_in_many_forms(text: str) -> None:
    assert read_edits(text) == PLAIN


def test_blocks_of_several_files_and_several_of_one() -> None:
    text = f"### a.py\n```\n{BLOCK}\n{BLOCK}\n```\n### lib/b.py\n```\n{BLOCK}\n```\n{BLOCK}"
    assert [(edit.path, edit.line) for edit in read_edits(text)] == [
        ("a.py", 3),
        ("a.py", 8),
        ("lib/b.py", 16),
        ("lib/b.py", 22),
    ]


def test_lines_are_counted_in_the_whole_text() -> None:
    assert read_edits(f"<think>\n\n</think>\n<solution>\n### a.py\n{BLOCK}\n</solution>")[0].line == 6


def test_markers_inside_a_block_stand_there_when_the_block_has_more_signs() -> None:
    edit = Edit("doc.md", ("Title", "=======", "<<<<<<< SEARCH"), (">>>>>>> REPLACE", "", "========"))
    assert "<<<<<<<<< SEARCH" in write_edits([edit])
    assert read_edits(write_edits([edit, *PLAIN])) == [edit, *PLAIN]
    other = "### a.rst\n<<<<<<< SEARCH\nTitle\n=====\n=======\nName\n====\n>>>>>>> REPLACE"
    assert read_edits(other) == [Edit("a.rst", ("Title", "====="), ("Name", "===="))]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", "no_edit", "no search/replace block"),
        (f"<think>### a.py\n{BLOCK}", "no_edit", "no search/replace block"),
        (BLOCK, "no_path", "line 1: no path above"),
        (f"This is the change, e.g.\n{BLOCK}", "no_path", "line 2"),
        ("### a.py\n<<<<<<< SEARCH\nx", "unclosed", "line 2: this block never ends; expected ======= below"),
        ("### a.py\n<<<<<<< SEARCH\nx\n=======\ny", "unclosed", "line 2: this block never ends; expected >>>>>>>"),
        (f"### a.py\n<<<<<<< SEARCH\nx\n### b.py\n{BLOCK}", "unclosed", "line 2: this block never ends"),
    ],
)
def test_errors_name_the_line_and_the_rule(text: str, kind: str, words: str) -> None:
    with pytest.raises(ChangeError, match=words) as caught:
        read_edits(text)
    assert caught.value.kind == kind


FILE = "def f(x):\n    if x:\n        return 1\n    return 2\n\n\nclass A:\n    def f(self):\n        return 1\n"


@pytest.mark.parametrize(
    ("search", "replacement", "old", "new"),
    [
        ("    return 2", "    return 3", "    return 2\n", "    return 3\n"),
        ("        return 1", "        return 7", "        return 1\n", "        return 7\n"),  # in both places
        ("    if x:  \n        return 1 ", "    pass", "    if x:\n        return 1\n", "    pass\n"),
        (
            "if x:\n    return 1",
            "if x:\n    return 9",
            "        return 1\n    return 2",
            "        return 9\n    return 2",
        ),
        (
            "      if x:\n          return 1",
            "      if x:\n          no()",
            "    if x:\n        return 1",
            "    if x:\n        no()",
        ),
        ("\n\n    if x:\n        return 1\n", "\n    pass\n", "    if x:\n        return 1\n", "    pass\n"),
        ("def f(x", "def g(x", "def f(x", "def g(x"),  # the rest of the line stays
    ],
)
def test_an_edit_finds_its_lines(search: str, replacement: str, old: str, new: str) -> None:
    edit = Edit("a.py", tuple(search.split("\n")), tuple(replacement.split("\n")))
    assert replaced({"a.py": FILE}, [edit]) == {"a.py": FILE.replace(old, new)}


def test_lines_are_deleted_files_made_and_taken_away() -> None:
    files = {"a.py": "x = 1\ny = 1\n", "b.py": "x = 1\n", "c.py": ""}
    edits = read_edits(
        "### a.py\n<<<<<<< SEARCH\nx = 1\n=======\n>>>>>>> REPLACE\n"
        "### new/d.py\n<<<<<<< SEARCH\n=======\nz = 1\n>>>>>>> REPLACE\n"
        "### e.py\n<<<<<<< SEARCH\n\n=======\nz = 2\n>>>>>>> REPLACE\n"
        "### b.py\n<<<<<<< SEARCH\nx = 1\n=======\n>>>>>>> REPLACE\n"
        "### c.py\n<<<<<<< SEARCH\n=======\nz = 3\n>>>>>>> REPLACE\n"
    )
    assert replaced(files, edits) == {
        "a.py": "y = 1\n",
        "new/d.py": "z = 1\n",
        "e.py": "z = 2\n",
        "b.py": None,
        "c.py": "z = 3\n",
    }


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (Edit("b.py", ("x",), ("y",)), "not_found", "b.py: no such file"),
        (Edit("a.py", ("    return 5",), ("y",)), "not_found", "no such line as 'return 5'"),
        (Edit("a.py", ("    return 2", "class A:"), ("y",), 7), "not_found", "line 7: .* one behind the other"),
        (Edit("a.py", ("return 1",), ("y",)), "ambiguous", "like lines 3, 9"),
        (Edit("a.py", ("class A:",), ("class A:",)), "same", "replaced by themselves"),
        (Edit("a.py", ("",), ("y",)), "exists", "no lines to search"),
        (Edit("../a.py", ("",), ("y",)), "outside", "expected a path to a file in the tree"),
        (Edit("a.py", ("        return 1",), ("y" * 11_000_000,)), "too_long", "at most"),
    ],
)
def test_an_edit_that_does_not_apply(edit: Edit, kind: str, words: str) -> None:
    with pytest.raises(ChangeError, match=words) as caught:
        replaced({"a.py": FILE}, [edit])
    assert caught.value.kind == kind


def test_a_reward_is_not_made_to_fill_the_memory() -> None:
    """A block that searches for nothing stands at every line: ten of them would make 1e20 lines."""
    grow = Edit("a.py", ("",), ("x\n" * 100,))
    with pytest.raises(ChangeError, match="at most") as caught:
        replaced_strictly({"a.py": "x\n" * 100}, [grow] * 10)
    assert caught.value.kind == "too_long"


def test_edits_between_two_versions_lead_from_one_to_the_other() -> None:
    """Also with lines that repeat, without a newline at the end, and with files made, emptied and deleted."""
    draws = random.Random(0)
    for _ in range(400):
        files: dict[str, str] = {}
        changed: dict[str, str | None] = {}
        for name in "abc":
            old, new = (_text(draws) for _ in range(2))
            if draws.random() < 0.8:
                files[name] = old
            changed[name] = _like(old, draws) if draws.random() < 0.7 else new
            if name in files and draws.random() < 0.1:
                changed[name] = None
        expected = {path: text for path, text in changed.items() if text != files.get(path)}
        assert _again(files, changed) == expected, (files, changed)


def _again(files: Files, changed: dict[str, str | None]) -> dict[str, str | None]:
    edits = edits_between(files, changed)
    assert not edits or read_edits(write_edits(edits)) == edits
    return replaced(files, edits)


def _text(draws: random.Random) -> str:
    lines = [draws.choice(["", "a", "b", "  a", "=======", "c d"]) for _ in range(draws.randint(0, 12))]
    return "\n".join(lines) + draws.choice(["", "\n"]) if any(lines) else ""


def _like(text: str, draws: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(draws.randint(1, 3)):
        at = draws.randrange(len(lines))
        lines[at : at + draws.randint(0, 2)] = [draws.choice("abc")] * draws.randint(0, 2)
        lines = lines or ["a"]
    return "\n".join(lines)
