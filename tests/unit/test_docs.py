"""The pages speak of what is built: each command, key, default, plug-in, metric, path and link in them exists."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml

from llmrl import plugins, recipe
from llmrl.cli.main import app
from llmrl.pipeline import stages
from llmrl.recipe import Recipe
from llmrl.types import Problem
from tests.builders import some
from tests.recipe_sections import OPTIONS

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PROGRAMS = ("llmrl", "make", "pytest", "python", "accelerate")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, "" for none."""
    return [body for of, body in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text(page), re.M | re.S) if of == language]


def rows(page: str, heading: str) -> dict[str, str]:
    """Table under a heading, from the names in its first column to the second column."""
    section = text(page).split(f"\n## {heading}\n")[1].split("\n## ")[0]
    said: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, second = (cell.strip() for cell in line.split("|")[1:3])
            keys = re.findall(r"`([^`]+)`", names)
            values = second.split(", ") if len(keys) > 1 else [second]
            said |= dict(zip(keys, values, strict=True))
    return said


# Commands


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each shell command that a page shows, in a block or between backticks."""
    for page in map(name, PAGES):
        lines = [line.strip() for block in blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"`([^`\n]+)`", text(page))
        for line in lines:
            bare = re.sub(r"^([A-Z_]+=\S+ +)+", "", line)
            if bare.split(" ")[0] in PROGRAMS and " " in bare and "..." not in bare:
                yield page, tuple(shlex.split(bare, comments=True))


def parse(words: tuple[str, ...]) -> Any:
    """Parse `llmrl ...` as the command line does, without running it."""
    command: Any = typer.main.get_command(app)
    rest = list(words[1:])
    while hasattr(command, "commands") and (rest or not command.invoke_without_command):
        assert rest[0] in command.commands, f"no command {rest[0]}"
        command = command.commands[rest.pop(0)]
    mentioned = not rest  # by its name alone
    return command.make_context(" ".join(words[:2]), rest, resilient_parsing=mentioned)


COMMANDS = sorted(set(commands()))


def test_commands_are_found() -> None:
    assert {words[0] for _, words in COMMANDS} == set(PROGRAMS)
    assert len(COMMANDS) > 30


@pytest.fixture
def readers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The algorithm that docs/extending.md writes, where its commands look for it."""
    (tmp_path / "reinforce.py").write_text(blocks("docs/extending.md", "python")[0])
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("readers_own")
@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_command_is_one(page: str, words: tuple[str, ...]) -> None:
    if words[0] == "make":
        assert set(words[1:]) <= set(re.findall(r"^([\w.]+):", text("Makefile"), re.MULTILINE))
    for word in words:
        if re.match(r"(recipes|tests|benchmarks)/", word):
            assert (ROOT / word).exists(), word
    if words[0] == "accelerate":
        words = words[words.index("-m") + 1 :] if "-m" in words else ("nothing",)
    if words[0] == "llmrl" and len(words) > 1:
        said = parse(words)
        if words[1] == "train" and len(words) > 2 and str(said.params["recipe"]).startswith("recipes/"):
            path, overrides = ROOT / said.params["recipe"], [*(said.params["overrides"] or ()), *said.args]
            if recipe.STAGES in (values := recipe.tree(path)):
                stages.parse(values, str(path), path.stem, overrides)
            else:
                recipe.read(path, overrides)
        if words[1] == "demo":
            recipe.read(ROOT / "recipes" / "demo.yaml", said.params["overrides"] or ())
        if words[1] == "eval" and len(words) > 2:
            assert set(said.params["benchmarks"].split(",")) <= set(plugins.names("benchmark"))


# Recipes


def settings() -> Iterator[tuple[str, str, Any]]:
    """Each `section: ...` that a page shows, in a block of YAML or between backticks."""
    sections = "|".join(field.name for field in fields(Recipe))
    for page in map(name, PAGES):
        inline = re.findall(rf"`((?:{sections}): \{{[^`]*\}})`", text(page))
        for block in [*blocks(page, "yaml"), *inline]:
            tree: Any = yaml.compose(block)
            for key, value in tree.value:  # a page may show a section twice
                yield page, key.value, yaml.safe_load(yaml.serialize(value))


@pytest.mark.parametrize(("page", "section", "value"), settings(), ids=str)
def test_a_setting_is_one(page: str, section: str, value: Any) -> None:
    if section in OPTIONS:
        plugins.construct(OPTIONS[section], value, f"{page}: {section}")
    elif section == recipe.STAGES:
        stages.parse({section: value}, page, "shown")
    elif ":" not in value["name"] and value["name"] != "guessing" and "my_package" not in str(value):
        assert section in recipe.PLUGINS
        plugins.build(section, value, f"{page}: {section}")  # type: ignore[arg-type]


def shown(value: Any) -> str:
    """A default as the tables write it."""
    return value if isinstance(value, str) else json.dumps(value)


def value_of(written: str) -> float | str:
    """A default as a table writes it: 1e-3 is 0.001, and a word may be code."""
    bare = written.strip("`")
    try:
        return float(bare)
    except ValueError:
        return bare


def defaults(cls: Any) -> dict[str, str]:
    found = {}
    for field in fields(cls):
        made = field.default_factory() if field.default_factory is not MISSING else field.default
        found[field.name] = "required" if made is MISSING else shown(made)
    return found


@pytest.mark.parametrize("section", OPTIONS)
def test_every_key_of_a_recipe_is_explained_with_its_default(section: str) -> None:
    assert rows("docs/recipes.md", section) == defaults(OPTIONS[section])


@pytest.mark.parametrize(
    ("page", "heading", "kind", "plugin"),
    [
        ("docs/engines.md", "vllm", "engine", "vllm"),
        ("docs/sources.md", "online", "source", "online"),
        ("docs/sources.md", "asynchronous", "source", "asynchronous"),
        ("docs/sources.md", "offline", "source", "offline"),
        ("docs/sources.md", "rehearsal", "source", "rehearsal"),
        ("docs/browser.md", "Options", "env", "shop"),
        ("docs/sources.md", "replay", "source", "replay"),
        ("docs/gateway.md", "command", "agent", "command"),
        ("docs/tools.md", "tools", "env", "tools"),
        ("docs/envs.md", "dialogue", "env", "dialogue"),
        ("docs/envs.md", "subgoals", "env", "subgoals"),
    ],
)
def test_every_option_is_explained_with_its_default(page: str, heading: str, kind: plugins.Kind, plugin: str) -> None:
    assert rows(page, heading) == defaults(plugins.find(kind, plugin))


@pytest.mark.parametrize("plugin", plugins.names("algorithm"))
def test_every_option_of_an_algorithm_is_explained_with_its_default(plugin: str) -> None:
    """In words where it is null: what then holds."""
    said, wanted = rows(f"docs/algorithms/{plugin}.md", "Options"), defaults(plugins.find("algorithm", plugin))
    assert list(said) == list(wanted)
    known = [name for name, default in wanted.items() if default != "null"]
    assert {name: value_of(said[name]) for name in some(known)} == {name: value_of(wanted[name]) for name in known}


@pytest.mark.parametrize("plugin", plugins.names("search"))
def test_every_option_of_a_search_is_explained_with_its_default(plugin: str) -> None:
    assert rows("docs/search.md", plugin) == defaults(plugins.find("search", plugin))


@pytest.mark.parametrize("plugin", plugins.names("curriculum"))
def test_every_option_of_a_curriculum_is_explained_with_its_default(plugin: str) -> None:
    assert rows("docs/curricula.md", plugin) == defaults(plugins.find("curriculum", plugin))


def test_every_section_of_a_recipe_is_explained() -> None:
    page = text("docs/recipes.md")
    for field in fields(Recipe):
        assert f"\n## {field.name}\n" in page or f"\n| `{field.name}` |" in page


# What there is

HOMES = {
    "source": "docs/sources.md",
    "engine": "docs/engines.md",
    "env": "docs/envs.md",
    "reward": "docs/rewards.md",
    "data": "docs/data.md",
    "benchmark": "docs/eval.md",
    "search": "docs/search.md",
    "curriculum": "docs/curricula.md",
    "agent": "docs/gateway.md",
    "tool": "docs/tools.md",
    "simulator": "docs/envs.md",
}


@pytest.mark.parametrize("kind", get_args(plugins.Kind))
def test_every_plugin_has_a_place(kind: plugins.Kind) -> None:
    tree = blocks("docs/architecture.md", "")[0]
    for plugin in some(plugins.names(kind)):
        page = text(HOMES.get(kind, f"docs/algorithms/{plugin}.md"))
        assert f"`{plugin}`" in page or f"name: {plugin}" in page or f"\n## {plugin}\n" in page
        assert plugin in tree


def test_what_is_planned_is_not_there() -> None:
    assert not {"tool", "webshop", "webarena"} & set(plugins.names("env")), "the README says so"


def test_every_recipe_is_listed() -> None:
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert f"](../recipes/{path.name})" in text("docs/recipes.md")
    for path in (ROOT / "recipes" / "accelerate").glob("*.yaml"):
        assert f"`recipes/accelerate/{path.name}`" in text("docs/training.md")


def test_every_metric_is_explained() -> None:
    pages = text("docs/metrics.md") + "".join(text(f"docs/algorithms/{n}.md") for n in plugins.names("algorithm"))
    sources = ["train/metrics.py", "train/run.py", "train/weight_sync.py", "train/learners.py", "algorithms/grpo.py"]
    sources += ["algorithms/ppo/__init__.py", "ops/tracks.py"]
    sources += ["ops/losses.py", "ops/mismatch.py", "ops/divergence.py", "train/gold_reward.py"]
    names = re.findall(
        r'"((?:audit|sync|perf|updates|clip_ratio|sampling|completions|objective|advantages|returns|loss|policy)/[\w/]+)"',
        "".join(text(f"llmrl/{s}") for s in sources),
    )
    assert len(names) > 8
    assert not [metric for metric in names if f"`{metric}`" not in pages]


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", text("docs/index.md")))
    assert {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")} <= linked | {
        "index.md"
    }


# Links, paths and code


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page: Path) -> None:
    for line in page.read_text(encoding="utf-8").splitlines():
        for path in re.findall(r"`((?:llmrl|recipes|tests|benchmarks|docs|requirements)/[\w./-]+)`", line):
            assert (ROOT / path).exists() or "mine" in line or "guessing" in path, path


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_is_python(page: Path) -> None:
    for block in blocks(name(page), "python"):
        compile(block, name(page), "exec")


def test_the_environment_in_its_page_plays() -> None:
    scope: dict[str, Any] = {"__name__": "guessing"}
    exec(
        compile(
            "from __future__ import annotations\n" + blocks("docs/envs.md", "python")[0],
            "envs.md",
            "exec",
            dont_inherit=True,
        ),
        scope,
    )
    episode = scope["GuessingGame"]().make(
        Problem(id="1", messages=[{"role": "user", "content": "Guess."}], answer="7")
    )

    async def play() -> list[tuple[str, float, bool]]:
        seen = [await episode.step({"role": "assistant", "content": said}) for said in ("five", "5", "9", "7")]
        return [(str(one.messages[0]["content"]) if one.messages else "", one.reward, one.done) for one in seen]

    hints = [("A number, please.", 0.0, False), ("Larger.", 0.0, False), ("Smaller.", 0.0, False)]
    assert asyncio.run(play()) == [*hints, ("", 1.0, True)]


def test_the_reward_of_the_quickstart_pays() -> None:
    scope: dict[str, Any] = {}
    exec(blocks("docs/quickstart.md", "python")[0], scope)
    answers = [[{"role": "assistant", "content": "x" * length}] for length in (10, 200, 300, 500)]
    assert scope["brevity"](prompts=[], completions=answers, answer=["7"] * 4) == [1.0, 1.0, 0.5, 0.0]
