from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmrl.pipeline import stages
from llmrl.pipeline.kinds import KINDS
from llmrl.plugins import build, construct, spec_of
from llmrl.recipe import STAGES, parse, read, tree
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.reward_models.recipe import read as reward_recipe

FOLDER = Path(__file__).parents[2] / "recipes"
LAUNCHES = sorted((FOLDER / "accelerate").glob("*.yaml"))
REWARD_MODELS = sorted((FOLDER / "reward_models").glob("*.yaml"))  # recipes of another kind: `llmrl reward-model`
PIPELINES = [path for path in sorted({*FOLDER.rglob("*.yaml")} - {*LAUNCHES, *REWARD_MODELS}) if STAGES in tree(path)]
RECIPES = sorted(set(FOLDER.rglob("*.yaml")) - set(LAUNCHES) - set(REWARD_MODELS) - set(PIPELINES))


def parts(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rewards inside a mix, which builds them only when it starts."""
    for name, part in spec.get("parts", {}).items():
        options = dict(part) if isinstance(part, Mapping) else {}
        options.pop("weight", None)
        yield {"name": name, **options}
        yield from parts(options)


def test_there_are_recipes() -> None:
    assert RECIPES
    assert LAUNCHES
    assert REWARD_MODELS
    assert PIPELINES


@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.stem)
def test_a_recipe_of_stages_builds(path: Path) -> None:
    pipeline = stages.parse(tree(path), str(path), path.stem)
    assert "train" in {stage.kind for stage in pipeline.stages}


def test_recipes_of_stages_show_every_kind() -> None:
    pipelines = [stages.parse(tree(path), str(path), path.stem) for path in PIPELINES]
    assert {stage.kind for pipeline in pipelines for stage in pipeline.stages} == set(KINDS)


@pytest.mark.parametrize("path", REWARD_MODELS, ids=lambda p: p.stem)
def test_a_recipe_of_a_reward_model_builds(path: Path) -> None:
    recipe = reward_recipe(path)
    if path.stem == "salmon":
        assert "in principles" in recipe.input.template
    else:
        assert path.stem in (recipe.kind, recipe.columns)
    assert construct(RewardRecipe, recipe.as_dict(), "again") == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_a_recipe_builds(path: Path) -> None:
    recipe = read(path)
    for part in parts(spec_of("reward", recipe.reward)):
        build("reward", part, f"{path}: reward.parts")
    assert parse(recipe.as_dict()) == recipe
    assert parse(yaml.safe_load(yaml.safe_dump(recipe.as_dict()))) == recipe, "what a run folder keeps"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_a_constant_divisor_is_the_limit_that_answers_have(path: Path) -> None:
    recipe = read(path)
    divisor = getattr(recipe.algorithm, "max_completion_length", None)
    assert divisor in (None, recipe.rollout.max_completion_length)
    if getattr(recipe.algorithm, "over", None) == "constant":
        assert divisor is not None


def test_a_task_of_soft_measures_has_one_that_is_not_paid() -> None:
    """A reward that rises alone may be gamed: something must be held against it."""
    rewards = {path: spec_of("reward", read(path).reward) for path in RECIPES}
    soft = {path: reward["parts"] for path, reward in rewards.items() if "coverage" in reward.get("parts", {})}
    assert soft
    for path, paid in soft.items():
        weights = [p.get("weight") if isinstance(p, Mapping) else p for p in paid.values()]
        assert 0.0 in weights, path


@pytest.mark.parametrize("path", [*RECIPES, *LAUNCHES, *REWARD_MODELS], ids=lambda p: str(p.relative_to(FOLDER)))
def test_a_recipe_begins_by_saying_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")  # `llmrl recipes` shows it
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda p: p.stem)
def test_accelerate_reads_its_configuration(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    config = load_config_from_file(str(path))  # refuses unknown keys
    stage = config.deepspeed_config.get("zero_stage")
    assert (config.distributed_type == DistributedType.DEEPSPEED) == (stage is not None)
    if path.stem.startswith("zero"):
        assert stage == int(path.stem[4])
    if stage is not None:
        assert not config.use_cpu, "with use_cpu DeepSpeed would be off, and nothing would say so"
    assert config.num_processes % config.num_machines == 0
    assert config.mixed_precision == "no", "precision belongs to the recipe"
