"""Recipes of stages: what is read from them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.pipeline.stages import OutputReference, Pipeline, parse

SFT = {"name": "sft", "sft": {"model": "base", "data": "rows.jsonl", "max_steps": 2}}


def clone(**changes: Any) -> dict[str, Any]:
    sections: dict[str, Any] = {
        "model": {"policy": "${sft.final}"},
        "algorithm": {"name": "bc"},
        "source": {"name": "offline", "path": "rows.jsonl"},
    }
    return {"name": "clone", "train": {**sections, **changes}}


def check(model: str, name: str = "check") -> dict[str, Any]:
    return {"name": name, "eval": {"model": model, "benchmarks": ["arithmetic"]}}


def made(*stages: Any, overrides: tuple[str, ...] = (), **more: Any) -> Pipeline:
    return parse({"stages": list(stages), **more}, "p.yaml", "p", overrides)


def test_references_become_paths_of_outputs() -> None:
    pipeline = made(SFT, clone(), check("${clone.final}/adapter"), output_dir="out", run_name="mine")
    assert [stage.kind for stage in pipeline.stages] == ["sft", "train", "eval"]
    assert pipeline["clone"].references == [OutputReference("sft", "final")]
    assert pipeline.resolved(pipeline["clone"])["model"] == {"policy": "out/mine/sft/final"}
    assert pipeline.resolved(pipeline["check"])["model"] == "out/mine/clone/final/adapter"
    assert pipeline["clone"].recipe["model"] == {"policy": "${sft.final}"}, "as it is written"


def test_a_stage_writes_into_the_folder_of_the_pipeline() -> None:
    pipeline = made(SFT, clone(train={"output_dir": "elsewhere", "run_name": "other"}))
    stage = pipeline["clone"]
    read = stage.acts.read(pipeline.resolved(stage), Path("runs/p/clone"), "clone")
    assert (read.train.output_dir, read.train.run_name) == ("runs/p", "clone")


def test_an_override_names_its_stage() -> None:
    pipeline = made(SFT, clone(), overrides=("sft.max_steps=7", "--clone.train.seed=3"))
    assert pipeline["sft"].recipe["max_steps"] == 7
    assert pipeline["clone"].recipe["train"] == {"seed": 3}
    with pytest.raises(RecipeError, match=r"'clon.train.seed=3': expected stage.section.key.*did you mean 'clone'"):
        made(SFT, clone(), overrides=("clon.train.seed=3",))


def test_a_stage_may_be_the_file_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "check.yaml"
    path.write_text("{model: '${sft.final}', benchmarks: [arithmetic]}")
    pipeline = made(SFT, {"name": "check", "eval": str(path)})
    assert pipeline["check"].references == [OutputReference("sft", "final")]


REFUSED: dict[str, tuple[list[Any], str]] = {
    "twice": ([SFT, SFT], r"p.yaml: stages\[1\]: a second stage named 'sft'"),
    "unknown stage": ([SFT, check("${stf.final}")], r"stage check: \$\{stf.final\}: no stage 'stf'.* mean 'sft'"),
    "unknown output": ([SFT, check("${sft.rollouts}")], r"kind sft has no output 'rollouts'; expected \$\{sft.final\}"),
    "later": ([check("${sft.final}"), SFT], r"stage sft comes later; move it before check"),
    "cycle": (
        [clone(model={"policy": "${next.final}"}), {**clone(model={"policy": "${clone.final}"}), "name": "next"}],
        r"stage clone: \$\{next.final\}: a cycle, clone <- next <- clone",
    ),
    "itself": ([SFT, clone(model={"policy": "${clone.final}"})], r"a cycle, clone <- clone"),
    "no kind": ([{"name": "sft"}], r"stages\[0\] \(sft\): expected one of sft, collect.*found none"),
    "two kinds": ([{**SFT, "eval": {}}], r"found sft, eval"),
    "kind": ([{"name": "a", "trian": {}}], r"found trian; did you mean 'train'"),
    "name": ([{**SFT, "name": "../up"}], r"name: expected letters.*found '../up'"),
    "no list": ([3], r"stages\[0\]: expected `name` and one of"),
    "sections": ([{"name": "a", "sft": 3}], r"a\): sft: expected sections, or the path of a recipe; found 3"),
    "a key of a stage": ([SFT, clone(rollout={"top_q": 1})], r"stage clone: rollout.top_q: unknown key"),
    "learning collector": (
        [{"name": "a", "collect": {"model": {"policy": "m"}, "algorithm": {"name": "bc"}}}],
        r"stage a: algorithm: nothing learns",
    ),
    "silent collector": (
        [{"name": "a", "collect": {"model": {"policy": "m"}, "source": {"name": "offline", "path": "rows"}}}],
        r"stage a: source: it generates nothing",
    ),
    "benchmark": ([{"name": "a", "eval": {"model": "m", "benchmarks": ["gsm9k"]}}], r"unknown benchmark 'gsm9k'"),
    "steps": ([{"name": "a", "sft": {"model": "m", "data": "rows", "max_steps": 0}}], r"max_steps 0: expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_refused_with_its_place(name: str) -> None:
    stages, message = REFUSED[name]
    with pytest.raises(RecipeError, match=message):
        made(*stages)


def test_sections_of_a_run_are_no_keys_of_a_pipeline() -> None:
    with pytest.raises(RecipeError, match=r"model: unknown key of a recipe of stages.*belong into a stage"):
        made(SFT, model={"policy": "m"})
    with pytest.raises(RecipeError, match=r"stages: expected a list"):
        parse({"stages": {}}, "p.yaml", "p")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": "plan_mtcs:4"}, "plan_mcts"),
        ({"reward": "numerc"}, "numeric"),
        ({"judge": "no_such"}, "no_such"),
        ({"limit": 0}, "limit 0"),
        ({"trees": 0}, "trees 0"),
        ({"depth": 3}, "depth"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_runs(change: dict[str, Any], message: str) -> None:
    search = {"model": "base", "data": "arithmetic", "search": "plan_mcts:4", "reward": "numeric"}
    assert made({"name": "trees", "search": search})["trees"].kind == "search"
    with pytest.raises(RecipeError, match=message):
        made({"name": "trees", "search": {**search, **change}})
