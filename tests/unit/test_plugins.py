from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from llmrl import plugins
from llmrl.errors import RecipeError
from llmrl.plugins import Kind, build, construct, find, names


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Options:
    size: int
    rate: float = 0.5
    kind: Literal["a", "B"] = "a"
    words: Sequence[str] = ()
    inner: Inner = field(default_factory=Inner)
    call: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size {self.size}: expected at least 0")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_public_files_of_a_folder_are_its_plugins(kind: Kind) -> None:
    assert names(kind) == sorted(names(kind))
    assert not [name for name in names(kind) if name.startswith("_")]
    for name in names(kind):
        assert find(kind, name) is sys.modules[f"{plugins.PACKAGES[kind]}.{name}"].plugin


def test_a_plugin_by_name_alone_or_with_options() -> None:
    assert build("algorithm", "grpo") == build("algorithm", {"name": "grpo"})
    assert build("algorithm", {"name": "grpo", "epsilon": 0.1}).epsilon == 0.1


def test_a_plugin_of_somebody_elses() -> None:
    assert find("env", "llmrl.envs.single_turn:SingleTurn").__name__ == "SingleTurn"
    assert build("reward", "math:sqrt")(4.0) == 2.0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("grpoo", "unknown algorithm 'grpoo'; did you mean 'grpo'\\?; known: "),
        ({"name": "zzz"}, "unknown algorithm 'zzz'; known: "),
        ({}, "algorithm: no name; expected one of .*grpo.*, or package.module:Attribute"),
        ({"name": 3}, "algorithm: no name"),
        ({"name": "grpo", "epsilom": 1}, "algorithm.epsilom: unknown key; did you mean 'epsilon'\\?; known: epsilon, "),
        ({"name": "grpo", "epsilon": "big"}, "algorithm.epsilon: input should be a valid number.*; found 'big'"),
        ({"name": "grpo", "epsilon": -1}, r"algorithm: epsilon -1\.0, epsilon_high -1\.0: expected at least 0"),
        ("nowhere.to:be", "'nowhere.to:be' cannot be imported: ModuleNotFoundError.*PYTHONPATH"),
        ("math:nothing", "'math:nothing' cannot be imported: AttributeError"),
        ({"name": "math:sqrt", "power": 2}, "math:sqrt takes no options, found power"),
    ],
)
def test_what_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build("algorithm", spec)


def test_messages_begin_with_the_place() -> None:
    with pytest.raises(RecipeError, match=r"^mine.yaml: reward\.tolerence: unknown key; did you mean 'tolerance'"):
        build("reward", {"name": "numeric", "tolerence": 1}, "mine.yaml: reward")


def test_a_module_that_breaks_when_imported_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks_on_import.py").write_text("raise ZeroDivisionError('oh')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecipeError, match=r"'breaks_on_import:X' cannot be imported: ZeroDivisionError: oh"):
        build("reward", "breaks_on_import:X")


def test_values_take_the_type_of_their_field() -> None:
    made = construct(Options, {"size": "3", "rate": "1e-6", "words": ["x"], "inner": {"depth": "2"}}, "here")
    assert made == Options(3, 1e-6, "a", ("x",), Inner(2)), "a field that is a tuple by default is one"
    assert isinstance(made.rate, float)
    assert isinstance(made.inner.depth, int)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"here\.size: missing; it has no default"),
        ({"size": 1.5}, r"here\.size: .*valid integer.*; found 1\.5"),
        ({"size": 1, "kind": "c"}, r"here\.kind: input should be 'a' or 'B'; found 'c'"),
        ({"size": 1, "words": ["x", 3]}, r"here\.words\[1\]: .*valid string; found \['x', 3\]"),
        ({"size": 1, "inner": {"deep": 1}}, r"here\.inner\.deep: unknown key; did you mean 'depth'\?"),
        ({"size": 1, "inner": 7}, r"here\.inner: expected a section with keys, found 7"),
        ({"size": -1}, r"here: size -1: expected at least 0"),
    ],
)
def test_values_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        construct(Options, options, "here")
