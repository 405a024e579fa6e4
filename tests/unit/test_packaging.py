"""Installed files and names, and the promises of every plug-in: `docs/architecture.md`, sections 2, 9, 10."""

from __future__ import annotations

import ast
import os
import pickle
import tomllib
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from llmrl.plugins import PACKAGES, Kind, find, names

ROOT = Path(__file__).parents[2]
MAPPED = ("rewards", "data", "eval", "recipes")
HOMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
# Options for plug-ins whose defaults are refused: something must be chosen.
CHOSEN: dict[tuple[str, str], dict[str, Any]] = {
    ("tool", "mcp"): {"url": "http://127.0.0.1:8000/mcp"},
    ("data", "jsonl"): {"path": "rows.jsonl"},
    ("data", "swe"): {"path": "rows.jsonl"},
    ("source", "returns"): {"path": "rows.jsonl"},
    ("source", "offline"): {"path": "rows.jsonl"},
}
PLUGINS = [(kind, name) for kind in get_args(Kind) for name in names(kind)]


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> list[Path]:
    return [path for path in tree() if path.suffix == ".py"]


def tree() -> list[Path]:
    """Every file of the package; links are followed."""
    found = (Path(folder) / name for folder, _, names in os.walk(ROOT / "llmrl", followlinks=True) for name in names)
    return sorted(path for path in found if path.parent.name != "__pycache__")


def test_the_packages_named_are_those_of_the_tree() -> None:
    packages = [".".join(path.parent.relative_to(ROOT).parts) for path in sources() if path.name == "__init__.py"]
    assert sorted(project()["tool"]["setuptools"]["packages"]) == sorted(packages)


def test_every_source_file_is_in_a_package() -> None:
    assert not [str(path) for path in sources() if not (path.parent / "__init__.py").is_file()]


@pytest.mark.parametrize("name", MAPPED)
def test_a_folder_beside_the_package_is_linked_and_mapped(name: str) -> None:
    link = ROOT / "llmrl" / name
    assert link.is_symlink()
    assert link.resolve() == (ROOT / name).resolve()
    assert not link.readlink().is_absolute()
    assert project()["tool"]["setuptools"]["package-dir"][f"llmrl.{name}"] == name


@pytest.mark.parametrize("name", ["rewards", "data", "eval"])
def test_a_folder_beside_the_package_refuses_a_second_identity(name: str) -> None:
    # `import rewards` from the root would make a second copy of every class.
    with pytest.raises(ImportError, match=f"llmrl.{name}"):
        exec(compile((ROOT / name / "__init__.py").read_text(encoding="utf-8"), name, "exec"), {"__name__": name})


def test_data_files_are_installed() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]
    lost = []
    for path in (p for p in tree() if p.suffix in {".yaml", ".jsonl"}):
        package = next(parent for parent in path.parents if (parent / "__init__.py").is_file())
        inside = path.relative_to(package)
        globs = patterns["*"] + patterns.get(".".join(package.relative_to(ROOT).parts), [])
        if not any(len(inside.parts) == len(Path(glob).parts) and inside.match(glob) for glob in globs):
            lost.append(str(path.relative_to(ROOT)))
    assert not lost


def test_no_module_is_a_drawer_for_what_has_no_home() -> None:
    assert not [str(path) for path in sources() if HOMELESS & {path.stem.strip("_"), path.parent.name}]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_file_ends_with_its_plugin(kind: Kind, name: str) -> None:
    path = ROOT / PACKAGES[kind].replace(".", "/") / f"{name}.py"
    path = path if path.is_file() else path.with_suffix("") / "__init__.py"
    last = ast.parse(path.read_text(encoding="utf-8")).body[-1]
    assert isinstance(last, ast.Assign), f"{path}: expected `plugin = ...` on the last line"
    assert [ast.unparse(target) for target in last.targets] == ["plugin"]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_is_a_value(kind: Kind, name: str) -> None:
    plugin = find(kind, name)
    if not is_dataclass(plugin):
        assert callable(plugin)
        return
    cls = plugin if isinstance(plugin, type) else type(plugin)
    assert cls.__dataclass_params__.frozen, f"{cls.__name__} is not frozen"  # type: ignore[attr-defined]
    if any(f.init and f.default is MISSING and f.default_factory is MISSING for f in fields(cls)):
        return
    value = cls(**CHOSEN.get((kind, name), {})) if isinstance(plugin, type) else plugin
    assert pickle.loads(pickle.dumps(value)) == value
    assert hash(replace(value)) == hash(value)
