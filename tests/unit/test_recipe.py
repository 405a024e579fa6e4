from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from llmrl.algorithms.grpo import GRPO
from llmrl.errors import RecipeError
from llmrl.plugins import build, name_of, spec_of
from llmrl.recipe import EvalOptions, ModelOptions, Recipe, RolloutOptions, TrainOptions, parse, read

MINE = """
model: {policy: ./model}
data: {name: arithmetic, count: 8}
reward: {name: numeric}
algorithm: {name: grpo, epsilon: 0.1}
engine: {name: hf}
train: {learning_rate: 1e-6, max_steps: 3}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


def test_a_recipe_states_what_differs(mine: Path) -> None:
    recipe = read(mine)
    assert recipe.train.learning_rate == 1e-6, "YAML reads 1e-6 as text"
    assert isinstance(recipe.train.learning_rate, float)
    assert (recipe.train.max_steps, recipe.train.seed) == (3, 0)
    assert (name_of("source", recipe.source), name_of("env", recipe.env)) == ("online", "single_turn")
    assert recipe.algorithm == GRPO(epsilon=0.1)


def test_a_recipe_written_out_reads_back_equal(mine: Path) -> None:
    recipe = read(mine)
    text = yaml.safe_dump(recipe.as_dict())
    assert parse(yaml.safe_load(text)) == recipe
    assert yaml.safe_dump(parse(yaml.safe_load(text)).as_dict()) == text
    assert yaml.safe_load(text)["algorithm"]["epsilon_high"] is None, "defaults are spelled out"


def test_overrides_are_yaml_and_win(mine: Path) -> None:
    recipe = read(
        mine,
        [
            "train.learning_rate=2e-5",
            "--train.max_steps=7",
            "train.gradient_checkpointing=true",
            "model.policy=other=name",
            "eval.benchmarks=[gsm8k, math500]",
            "rollout.temperature=0.5",
        ],
    )
    assert (recipe.train.learning_rate, recipe.train.max_steps) == (2e-5, 7)
    assert recipe.train.gradient_checkpointing is True
    assert recipe.model.policy == "other=name"
    assert list(recipe.eval.benchmarks) == ["gsm8k", "math500"]
    assert recipe.rollout.temperature == 0.5, "a section that the file does not have"


def test_overrides_make_what_is_nested(mine: Path) -> None:
    recipe = read(mine, ["reward.name=mix", "reward.parts.numeric=1.0", "reward.parts.format=0.1"])
    assert spec_of("reward", recipe.reward) == {"name": "mix", "parts": {"numeric": 1.0, "format": 0.1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.seed", r"override 'train.seed': expected section.key=value, such as "),
        ("train.seed.low=1", r"mine.yaml: train.seed: .*valid integer.*found \{'low': 1\}"),
        ("train.learning_rate.low=1", r"override 'train.learning_rate.low=1': learning_rate holds '1e-6'; expected a"),
        ("train.run_name=[", r"override 'train.run_name=\[': not YAML: expected the node content"),
        (
            "train.learning_rat=1",
            r"mine.yaml: train.learning_rat: unknown key; did you mean 'learning_rate'\?; known: ",
        ),
        ("trane.seed=1", r"mine.yaml: trane: unknown key; did you mean 'train'\?"),
        ("train.max_steps=many", r"mine.yaml: train.max_steps: .*valid integer.*; found 'many'"),
        ("train.max_steps=0", r"mine.yaml: train: max_steps 0: expected at least 1"),
        (
            "train.learning_rate=.nan",
            r"mine.yaml: train.learning_rate: expected a finite number, found nan",
        ),
        ("train.save_total_limit=0", r"mine.yaml: train: save_total_limit 0: expected at least 1"),
        ("train.tokens_per_device=0", r"mine.yaml: train: tokens_per_device 0: expected at least 1"),
        ("train.max_grad_norm=0", r"mine.yaml: train: max_grad_norm 0.0: expected above 0"),
        ("train.lr_scheduler_type=cosin", r"train.lr_scheduler_type: .*'cosine'; found 'cosin'"),
        ("rollout.temperature=0", r"mine.yaml: rollout: temperature 0.0: training needs a policy that samples"),
        ("rollout.num_generations=0", r"mine.yaml: rollout: num_generations.*at least 1"),
        ("rollout.max_turns=0", r"mine.yaml: rollout: max_turns.*at least 1"),
        ("model.dtype=float16", r"mine.yaml: model.dtype: .*'float32' or 'bfloat16'; found 'float16'"),
        ("rollout=3", r"mine.yaml: rollout: .*found 3"),
        ("rollout.max_prompt_length=0", r"mine.yaml: rollout: max_prompt_length 0, .*expected at least 1"),
        ("rollout.top_p=0", r"mine.yaml: rollout: top_p 0.0, top_k 0: expected above 0 and at most 1"),
        ("rollout.log_completions=2", r"mine.yaml: rollout: log_completions 2.0: expected from 0 to 1"),
        ("engine={gpu: 1}", r"mine.yaml: engine: no name; expected one of hf, .*, or package.module:Attribute"),
        ("engine=3", r"mine.yaml: engine: 3 lacks what llmrl/protocols.py asks"),
        (
            "algorithm={name: math:sqrt}",
            r"mine.yaml: algorithm: <built-in function sqrt> lacks what ",
        ),
    ],
)
def test_what_an_override_may_not_say(mine: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read(mine, [override])


@pytest.mark.parametrize("section", ["model", "data", "reward", "algorithm"])
def test_sections_without_default_are_asked_for(section: str) -> None:
    tree = yaml.safe_load(MINE)
    del tree[section]
    with pytest.raises(RecipeError, match=rf"^mine.yaml: {section}: missing; it has no default"):
        parse(tree, "mine.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"expected sections such as `model:` and `data:`, found nothing"),
        (b"- a\n", r"expected sections such as `model:` and `data:`, found list"),
        (b"model: {policy: [}", r"not YAML: "),
        (b"model: \xff\xfe", r"not UTF-8 text"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(text)
    with pytest.raises(RecipeError, match=rf"broken.yaml: {message}"):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"none.yaml: cannot be read: No such file or directory; `llmrl recipes` lists"
    ):
        read(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match=r"cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "algorithm.epsilon_hi=1",
            "algorithm.epsilon_hi: unknown key; did you mean 'epsilon_high'?; known: epsilon, ",
        ),
        ("data.count=none at all", "data.count: "),
        ("data.high=-1", "data: low 0 is above high -1"),
        ("eval.benchmarks=[gsm9k]", "eval.benchmarks: unknown benchmark 'gsm9k'"),
        ("audit.reward={name: numerik}", "audit.reward: unknown reward 'numerik'"),
        ("audit.reward={name: numeric, tolerence: 1}", "audit.reward.tolerence: unknown key; did you mean 'tolerance'"),
    ],
)
def test_plugins_are_built_when_a_recipe_is_read(mine: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(mine, [override])
    assert str(caught.value).startswith(f"{mine}: {message}")


def test_a_recipe_is_made_and_changed_in_python() -> None:
    made = Recipe(
        model=ModelOptions(policy="./model"),
        data=build("data", {"name": "arithmetic", "count": 8}),
        reward=build("reward", "numeric"),
        algorithm=GRPO(epsilon=0.1),
        engine=build("engine", "hf"),
        train=TrainOptions(learning_rate=1e-6, max_steps=3),
    )
    assert made == parse(yaml.safe_load(MINE))
    specs = {"data": {"name": "arithmetic", "count": 8}, "algorithm": {"name": "grpo", "epsilon": 0.1}, "engine": "hf"}
    assert replace(made, **specs) == made, "a spec is built"  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"^algorithm.epsilom: unknown key"):
        replace(made, algorithm={"name": "grpo", "epsilom": 0.1})  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"^eval.every 5: without eval.benchmarks nothing is evaluated"):
        replace(made, eval=EvalOptions(every=5))


def test_a_reward_that_is_a_function_keeps_its_name(mine: Path) -> None:
    recipe = read(mine, ["reward={name: math:sqrt}"])
    assert recipe.as_dict()["reward"] == {"name": "math:sqrt"}
    assert parse(recipe.as_dict()) == recipe


@pytest.mark.parametrize(("bf16", "dtype", "expected"), [(False, "float32", "float32"), (True, "float32", "bfloat16")])
def test_trainer_and_engine_compute_in_one_dtype(mine: Path, bf16: bool, dtype: str, expected: str) -> None:
    assert read(mine, [f"train.bf16={bf16}", f"model.dtype={dtype}"]).compute_dtype == expected
    assert read(mine, [f"train.bf16={bf16}", "model.dtype=bfloat16"]).compute_dtype == "bfloat16"


@pytest.mark.parametrize(("rollouts", "per_step", "expected"), [(0, 16, 0), (1, 16, 1), (32, 16, 2), (33, 16, 3)])
def test_whole_steps_are_collected(mine: Path, rollouts: int, per_step: int, expected: int) -> None:
    train = TrainOptions(warmup_rollouts=rollouts)
    rollout = RolloutOptions(num_generations=per_step // 4, prompts_per_step=4)
    assert replace(read(mine), train=train, rollout=rollout).collect_only_steps == expected


def test_a_constant_divisor_is_the_limit_of_the_rollout(mine: Path) -> None:
    constant = ["algorithm.loss_type=dr_grpo", "rollout.max_completion_length=64"]
    assert read(mine, constant).as_dict()["algorithm"]["max_completion_length"] == 64
    assert read(mine, [*constant, "algorithm.max_completion_length=64"]) == read(mine, constant)
    with pytest.raises(RecipeError, match=r"mine\.yaml: algorithm: max_completion_length 32, but rollout\.max_comp"):
        read(mine, [*constant, "algorithm.max_completion_length=32"])


AHEAD = ["source.name=asynchronous", "source.max_staleness=1"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine.name=vllm"], r"while the trainer learns, which engine vllm cannot"),
        (["engine.name=server", "engine.enable_sleep_mode=true"], r"which engine server cannot as it is set here"),
        (["algorithm.importance_sampling_correction=none"], r"older weights, which algorithm grpo does not correct"),
    ],
)
def test_playing_ahead_needs_an_engine_that_can_and_a_correction(
    mine: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=rf"mine\.yaml: source asynchronous .*{message}"):
        read(mine, [*AHEAD, *overrides])
    read(mine, [*AHEAD, *overrides, "source.max_staleness=0"])
    read(mine, [*AHEAD, "engine.name=server"])
