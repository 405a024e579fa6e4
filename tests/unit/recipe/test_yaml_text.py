"""YAML that may be anything: one message, and nothing that blows up."""

from __future__ import annotations

import pytest
import yaml

from llmrl.errors import RecipeError
from llmrl.recipe import yaml_text

LAUGH = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
LAUGH += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
MERGE = "m0: &m0 {k: 1}\n" + "".join(f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}\n" for i in range(1, 40))
FAULTS = {
    "broken": ("a: [", r"not YAML: expected the node content, but found '<stream end>' at line 1, column 5"),
    "nul": ("a: \0", r"not YAML: unacceptable character #x0000"),
    "deep": ("a: " + "[" * 1000, "lists and mappings are nested deeper than 50 levels"),
    "deep mappings": (
        "".join(" " * i + "a:\n" for i in range(60)),
        "line 51: lists and mappings are nested deeper than 50 levels",
    ),
    "digits": ("\na: " + "7" * 10_000, "line 2: a number of more than 1000 digits"),
    "base 60": ("a: " + "1:" * 5000 + "1", "line 1: a number of more than 1000 digits"),
    "laughs": (LAUGH, "line 5: anchors repeat more than 100,000 values"),
    "merges": (MERGE, "line 1: anchors repeat more than 100,000 values"),
    "cycle": ("a: &a [*a]", "line 1: an anchor that holds itself"),
    "half a character": ('a: "\\ud800"', r"line 1: half a character, the lone surrogate \\ud800"),
    "no date": ("a: 2001-99-99", "not YAML: month must be in 1..12"),
    "twice": ("train:\n  seed: 1\n  lr: 2\n  seed: 3", "line 4: the key 'seed' again, which line 2 has already; keep"),
    "twice at the top": ("a: {b: 1}\nc: 2\na: {d: 1}", "line 3: the key 'a' again, which line 1 has already; keep one"),
    "twice in a line": ("{a: 1, 'a': 2}", "line 1: the key 'a' again, which line 1 has already; keep one of them"),
    "twice in a list": ("- {a: 1}\n- b: 1\n  b: 1", "line 3: the key 'b' again, which line 2 has already; keep one"),
    "twice as another word": ("yes: 1\ntrue: 2", "line 2: the key 'true' again, which line 1 has already; keep one"),
    "twice as a number": ("16: 1\n0x10: 2", "line 2: the key '0x10' again, which line 1 has already; keep one of"),
    "tag": ("a: !!python/object:os.system x", "not YAML: could not determine a constructor"),
}


@pytest.mark.timeout(60)  # of which one text, whose aliases multiply, would need for ever
@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    text, message = FAULTS[name]
    with pytest.raises(RecipeError, match=f"^mine.yaml: {message}") as refused:
        yaml_text.parse(text, "mine.yaml")
    assert "\n" not in str(refused.value)


PLAIN = [
    *("", "7", "- é", "{a: 1e-6, b: 2001-01-01}"),
    *("a: &x {b: 1}\nc: {<<: *x, d: [*x, *x]}", "a: &x {b: 1}\nc: {<<: *x, b: 2}", "a: {b: 1}\nc: {b: 1}"),
    "a: &x {b: 1}\nb: &y {c: 1}\nd: {<<: *x, <<: *y}",
]


@pytest.mark.parametrize("text", PLAIN)
def test_the_rest_is_what_yaml_reads(text: str) -> None:
    assert yaml_text.parse(text, "mine.yaml") == yaml.safe_load(text)
