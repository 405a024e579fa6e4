"""Figures of the code's shape, read from its source: `python benchmarks/house.py`, `--json FILE`, `--tree FOLDER`.

`RULES` are the rules; tests/unit/test_house.py holds the project to them. `--tree` may name another version of the
project (a clone at an older commit), so that two tables can be laid side by side. Nothing is imported from the tree:
`ast` reads it. Standard library only.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SHIPPED = ("llmrl", "rewards", "data", "eval")
PLUGINS = (
    "rewards",
    "data",
    "eval",
    "llmrl/algorithms",
    "llmrl/engines",
    "llmrl/envs",
    "llmrl/sources",
    "llmrl/search",
)
BESIDE = ("rewards", "data", "eval")  # installed as llmrl.rewards ...
FIRST_WORDS = frozenset(
    ["what", "whether", "that", "those", "one", "of", "how", "all", "who", "whose", "which", "where", "why"]
)
FUNCTION_LINES, FILE_LINES, TEST_LINES = 60, 350, 400
SKIPPED = {".git", ".venv", "venv", "build", "dist", "runs", "__pycache__", ".ci"}
Defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class File:
    """A Python file of a tree; `path` is relative to the tree, with slashes."""

    path: str
    text: str

    @property
    def module(self) -> str:
        """The dotted name under which the file is imported."""
        parts = self.path.removesuffix(".py").split("/")
        parts = ["llmrl", *parts] if parts[0] in BESIDE else parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        """The package in which the file lies, or which it is."""
        return self.module if self.path.endswith("/__init__.py") else self.module.rpartition(".")[0]

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")

    @property
    def is_shipped(self) -> bool:
        return self.path.startswith(tuple(f"{folder}/" for folder in SHIPPED))

    @cached_property
    def nodes(self) -> ast.Module:
        return ast.parse(self.text)


def read(tree: Path) -> list[File]:
    """The Python files of a tree, in order; links are not followed (llmrl/rewards is a link to rewards)."""
    files = []
    for folder, inner, names in os.walk(tree):
        inner[:] = [name for name in inner if name not in SKIPPED and not name.endswith(".egg-info")]
        paths = [Path(folder) / name for name in names if name.endswith(".py")]
        files += [File(path.relative_to(tree).as_posix(), path.read_text(encoding="utf-8")) for path in paths]
    return sorted(files, key=lambda file: file.path)


def root_files(files: list[File]) -> list[str]:
    """Files at the package's root."""
    return [file.path for file in files if file.path.count("/") == 1 and file.path.startswith("llmrl/")]


def private_plugin_files(files: list[File]) -> list[str]:
    """Underscored files in folders of plug-ins; data/tiny holds rows."""
    return [
        file.path
        for file in files
        if file.path.startswith(tuple(f"{folder}/" for folder in PLUGINS))
        and not file.path.startswith("data/tiny/")
        and is_private(file.path.split("/")[-1].removesuffix(".py"))
    ]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def imports(file: File, modules: set[str], inside_functions: bool) -> Iterator[tuple[str, int]]:
    """Modules of the tree that a file imports, and the lines. Imports under TYPE_CHECKING are counted."""

    def walk(node: ast.AST) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in modules else node.module
                if name in modules:
                    yield name, node.lineno
        if inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for child in ast.iter_child_nodes(node):
                yield from walk(child)

    yield from dict.fromkeys(walk(file.nodes))  # `from module import a, b` is one import


def private_imports(files: list[File]) -> list[str]:
    """Imports of an underscored module from outside the package that holds it, inside functions too."""
    shipped = [file for file in files if file.is_shipped]
    modules = {file.module for file in shipped}
    crossings = []
    for file in shipped:
        for name, line in imports(file, modules, inside_functions=True):
            parts = name.split(".")
            private = next((at for at, part in enumerate(parts) if is_private(part)), None)
            if private is not None and not f"{file.package}.".startswith(".".join(parts[:private]) + "."):
                crossings.append(f"{file.path}:{line} {name}")
    return crossings


def circles(files: list[File]) -> list[str]:
    """Modules that import each other, in a circle of any length.

    Counted are imports at the top of a file and those under TYPE_CHECKING; an import inside a function is not, for it
    is how a file loads another late.
    """
    shipped = [file for file in files if file.is_shipped]
    modules = {file.module for file in shipped}
    edges = {file.module: {name for name, _ in imports(file, modules, inside_functions=False)} for file in shipped}
    reach = {module: reachable(edges, module) for module in edges}
    rings = {tuple(sorted(other for other in reach[module] if module in reach[other])) for module in edges}
    return [" <-> ".join(ring) for ring in sorted(rings) if ring]


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += edges[module]
    return seen


def long_functions(files: list[File]) -> list[str]:
    """Functions past 60 lines, signature and docstring included, in shipped code, benchmarks and tests."""
    return [
        f"{file.path}:{node.lineno} {node.name} {lines}"
        for file in files
        for node in ast.walk(file.nodes)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]


def long_files(files: list[File]) -> list[str]:
    """Files past 350 lines outside tests."""
    return [entry for file in files if not file.is_test for entry in longer(file, FILE_LINES)]


def long_tests(files: list[File]) -> list[str]:
    """Test files past 400 lines."""
    return [entry for file in files if file.is_test for entry in longer(file, TEST_LINES)]


def longer(file: File, limit: int) -> list[str]:
    lines = file.text.count("\n")
    return [f"{file.path} {lines}"] if lines > limit else []


def not_none_asserts(files: list[File]) -> list[str]:
    """`assert ... is not None` in algorithms."""
    return [
        f"{file.path}:{node.lineno}"
        for file in files
        if file.path.startswith("llmrl/algorithms/")
        for node in ast.walk(file.nodes)
        if isinstance(node, ast.Assert) and ast.unparse(node.test).endswith("is not None")
    ]


def shared_class_names(files: list[File]) -> list[str]:
    """Names of public classes that two shipped modules define."""
    homes: dict[str, list[str]] = {}
    for file in files:
        if file.is_shipped:
            for node in file.nodes.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes.setdefault(node.name, []).append(file.path)
    return [f"{name}: {', '.join(paths)}" for name, paths in sorted(homes.items()) if len(paths) > 1]


def first_words(files: list[File]) -> list[str]:
    """Docstrings whose first word is a question's or a bare pronoun's, in shipped code, benchmarks and tests."""
    entries = []
    for file in files:
        for node in ast.walk(file.nodes):
            if isinstance(node, Defined | ast.Module) and (text := ast.get_docstring(node)):
                word = text.split()[0]
                if word.strip("*_`'\".,:;?!").lower() in FIRST_WORDS:
                    name = "" if isinstance(node, ast.Module) else f" {node.name}"
                    line = 1 if isinstance(node, ast.Module) else node.lineno
                    entries.append(f"{file.path}:{line}{name}: {text.splitlines()[0]}")
    return entries


@dataclass(frozen=True)
class Rule:
    """A figure of the house: what is listed, and how many entries are allowed."""

    list: Callable[[list[File]], list[str]]
    limit: int


RULES = {
    "files at llmrl/'s root": Rule(root_files, 13),
    "underscored files among plug-ins": Rule(private_plugin_files, 0),
    "imports across a border into a _ module": Rule(private_imports, 0),
    "circles between modules": Rule(circles, 0),
    f"functions past {FUNCTION_LINES} lines": Rule(long_functions, 0),
    f"files past {FILE_LINES} lines, outside tests": Rule(long_files, 0),
    f"test files past {TEST_LINES} lines": Rule(long_tests, 0),
    "`assert ... is not None` in algorithms": Rule(not_none_asserts, 0),
    "names shared by two public classes": Rule(shared_class_names, 0),
    "docstrings by first word": Rule(first_words, 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1], help="the project's folder")
    parser.add_argument("--json", type=Path, help="write every entry of every rule to this file")
    parser.add_argument("--entries", action="store_true", help="print the entries, not only how many there are")
    options = parser.parse_args()
    files = read(options.tree)
    entries = {name: rule.list(files) for name, rule in RULES.items()}
    print(f"| {options.tree.resolve().name}: {len(files)} files | found | allowed |\n|---|---:|---:|")
    for name, rule in RULES.items():
        print(f"| {name} | {len(entries[name])} | {rule.limit} |")
        if options.entries:
            print(*(f"    {entry}" for entry in entries[name]), sep="\n")
    texts = [entry.partition(": ")[2] for entry in entries["docstrings by first word"]]
    words = Counter(re.split(r"\W", text.lower(), maxsplit=1)[0] for text in texts)
    print("\nfirst words: " + (", ".join(f"{word} {count}" for word, count in words.most_common()) or "none listed"))
    if options.json:
        options.json.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
