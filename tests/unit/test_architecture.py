"""`docs/architecture.md` shows the loop, the tree, the layers and the build as they are."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [body for of, body in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S) if of == language]


def test_the_loop_is_the_loop() -> None:
    source = text("llmrl/train/loop.py")
    assert source[source.index("def train(") :] in blocks("python")


def test_the_tree_is_the_tree() -> None:
    tree = blocks("")[0]
    modules = [
        *(ROOT / "llmrl").glob("*.py"),
        *(ROOT / "llmrl" / "train").glob("*.py"),
        *(ROOT / "llmrl" / "ops").glob("*.py"),
    ]
    assert not [path for path in modules if path.name not in tree]
    there = {
        path.name for folder in ("llmrl", "rewards", "data", "eval", "tests") for path in (ROOT / folder).rglob("*.py")
    }
    assert not [file for file in re.findall(r"\w+\.py\b", tree) if file not in there]


def test_the_layers_are_those_that_are_tested() -> None:
    tested = next(
        ast.literal_eval(node.value)
        for node in ast.parse(text("tests/unit/test_imports.py")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS"
    )
    said = {
        f"llmrl.{module}": int(line.split()[0])
        for line in blocks("")[1].splitlines()
        for module in re.split(r"\s{4,}", line.strip())[0].split()[1:]
    }
    built = {
        module
        for module in tested
        if (ROOT / module.replace(".", "/")).exists() or (ROOT / f"{module.replace('.', '/')}.py").exists()
    }
    assert said == {module: tested[module] for module in built - {"llmrl", "llmrl.__main__", "llmrl.recipes"}}


def test_the_build_is_the_build() -> None:
    said, real = tomllib.loads(blocks("toml")[0]), tomllib.loads(text("pyproject.toml"))
    assert said["build-system"] == real["build-system"]
    assert said["tool"]["setuptools"] == real["tool"]["setuptools"]


def test_the_trip_of_one_token_is_the_trip(capsys: pytest.CaptureFixture[str]) -> None:
    source = next(block for block in blocks("python") if "def answered(" in block)
    exec(compile(source, "docs/architecture.md", "exec"), {"__name__": "trip"})
    promised = [line.partition("  # ")[2] for line in source.splitlines() if line.startswith("print(")]
    assert capsys.readouterr().out.splitlines() == promised
