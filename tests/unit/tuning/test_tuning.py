"""A search for settings: what a trial is made of, what is written, resume, and failures."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmrl.errors import DataError, LlmrlError, RecipeError
from llmrl.tuning.run import Tuning
from llmrl.tuning.samplers import SAMPLERS
from llmrl.tuning.space import Space, read

RECIPE = """
model: {policy: nowhere}
data: {name: arithmetic}
reward: {name: mix, parts: {numeric: 0.5, format: 0.5}}
algorithm: {name: grpo}
"""
SPACE: dict[str, Any] = {
    "weights": ["reward.parts.numeric", "reward.parts.format"],
    "search": {"train.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}, "algorithm.beta": [0.0, 0.1]},
    "objectives": {"accuracy": "maximize", "length": "minimize"},
    "reference": [0.0, 10.0],
    "seeds": [0, 1],
    "sampler": "random",
}
PRETEND = """
import json, sys
from pathlib import Path
given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
numeric, seed = float(given["reward.parts.numeric"]), int(given["train.seed"])
if numeric > FAILS:
    sys.exit(3)
folder = Path(given["train.output_dir"]) / given["train.run_name"]
folder.mkdir(parents=True, exist_ok=True)
steps = [{"accuracy": 0.0, "length": 9.0}, {"accuracy": numeric + 0.1 * seed}, {"length": 8 * numeric}]
lines = [json.dumps({"step": i, **step}) + "\\n" for i, step in enumerate(steps)]
(folder / "metrics.jsonl").write_text("".join(lines))
(folder.parent.parent / "count").open("a").write("x")
"""
"""Replaces the training: accuracy and length both rise with the weight of `numeric`, so all trials are a front."""


def tuning(folder: Path, fails: float = 9.0, space: dict[str, Any] | None = None, **options: Any) -> Tuning:
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "space.yaml").write_text(yaml.safe_dump(space or SPACE, sort_keys=False))
    (folder / "pretend.py").write_text(PRETEND.replace("FAILS", str(fails)))
    launch = (sys.executable, str(folder / "pretend.py"))
    made = read(folder / "space.yaml")
    return Tuning(recipe=folder / "recipe.yaml", space=made, out=folder / "out", launch=launch, **options)


def test_weights_are_on_the_simplex_and_choices_are_overrides() -> None:
    """Logit ln 3 against 0: 1/4 and 3/4."""
    space = Space(**{**SPACE, "weights": ["a", "b"], "search": {"train.bf16": [True, False]}})
    assert list(space.dimensions) == ["train.bf16", "logit of b"]
    told = space.overrides({"train.bf16": True, "logit of b": 1.0986122886681098})
    assert told == ["train.bf16=True", "a=0.25", "b=0.75"]
    assert space.maximised([0.5, 3.0]) == [0.5, -3.0]


def test_a_search_writes_its_front_with_commands(tmp_path: Path) -> None:
    made = tuning(tmp_path)
    made.run(4, say=lambda _: None)
    told = json.loads((tmp_path / "out" / "front.json").read_text())
    assert [each["trial"] for each in told["front"]] == [0, 1, 2, 3], "more accuracy is more length"
    trials = [json.loads(line) for line in (tmp_path / "out" / "trials.jsonl").read_text().splitlines()]
    for each, trial in zip(told["front"], trials, strict=True):
        numeric = next(float(o.partition("=")[2]) for o in trial["overrides"] if o.startswith("reward.parts.numeric"))
        assert each["values"] == pytest.approx([numeric + 0.05, 8 * numeric]), "means over the two seeds"
        assert each["command"].startswith(f"llmrl train {tmp_path / 'recipe.yaml'} train.learning_rate=")
    first = told["front"][0]["values"]
    assert told["hypervolume"][0] == pytest.approx(first[0] * (10 - first[1]))
    assert told["hypervolume"] == sorted(told["hypervolume"])
    with (tmp_path / "out" / "front.csv").open() as file:
        assert [row["in_front"] for row in csv.DictReader(file)] == ["1"] * 4
    assert (tmp_path / "out" / "front.png").stat().st_size > 5000


def test_a_second_call_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    made = tuning(tmp_path)
    made.run(2, say=lambda _: None)
    made.run(3, say=lambda _: None)
    whole = (tmp_path / "out" / "trials.jsonl").read_text()
    assert (tmp_path / "out" / "count").read_text() == "x" * 6, "three trials of two seeds"
    other = tmp_path / "other"
    other.mkdir()
    tuning(other).run(3, say=lambda _: None)
    assert (other / "out" / "trials.jsonl").read_text() == whole
    with pytest.raises(DataError, match=r"holds another search, as space.json says"):
        tuning(tmp_path, seed=1).run(3, say=lambda _: None)


def test_a_trial_that_fails_is_counted_and_the_first_one_ends_the_search(tmp_path: Path) -> None:
    tuning(tmp_path).run(4, say=lambda _: None)
    lines = (tmp_path / "out" / "trials.jsonl").read_text().splitlines()
    numeric = [json.loads(line)["values"][0][0] for line in lines]
    worst = max(numeric)
    assert worst > numeric[0], "by this seed"
    partly = tmp_path / "partly"
    partly.mkdir()
    tuning(partly, fails=worst - 1e-6).run(4, say=lambda _: None)
    told = json.loads((partly / "out" / "front.json").read_text())
    assert (told["trials"], told["failed"], len(told["hypervolume"])) == (4, 1, 3)
    none = tmp_path / "none"
    none.mkdir()
    with pytest.raises(LlmrlError, match="the first trial has failed"):
        tuning(none, fails=-1.0).run(4, say=lambda _: None)


def test_a_metric_that_is_not_logged_is_named(tmp_path: Path) -> None:
    space = {**SPACE, "objectives": {"eval/arithmetic/avg@1": "maximize"}, "reference": [0.0]}
    with pytest.raises(DataError, match=r"no metric 'eval/arithmetic/avg@1' in 100 steps; known: accuracy, length"):
        tuning(tmp_path, space=space).run(1, say=lambda _: None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference": [0.0]}, "a number of `reference` for each"),
        ({"weights": ["reward.parts.numeric"]}, "at least two under weights"),
        ({"search": {}, "weights": []}, "expected keys under search"),
        ({"search": {"train.seed": []}}, "expected a list of choices"),
        ({"search": {"train.seed": {"low": 1, "high": 0}}}, "expected low below high"),
        ({"sampler": "grid"}, "tpe"),
        ({"spaces": 1}, "unknown key"),
        ({"seeds": []}, "seeds: expected at least one"),
    ],
    ids=str,
)
def test_spaces_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        tuning(tmp_path, space={**SPACE, **changes})


def test_settings_that_make_no_recipe_are_refused_before_anything_runs(tmp_path: Path) -> None:
    made = tuning(tmp_path, space={**SPACE, "search": {"train.learning": [1.0, 2.0]}})
    with pytest.raises(RecipeError, match=r"train.learning: unknown key"):
        made.run(1, say=lambda _: None)
    assert not (tmp_path / "out" / "count").exists()


def test_optuna_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(LlmrlError, match=r"pip install 'llmrl\[tune\]', or sampler: random"):
        SAMPLERS["tpe"](Space(**SPACE), [], "0")


def test_optuna_goes_where_the_best_lie_and_repeats_itself() -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed: the extra `tune`")
    space = Space(objectives={"x": "maximize"}, reference=[0.0], search={"a": {"low": 0.0, "high": 1.0}})
    past: list[tuple[dict[str, Any], list[float]]] = []
    for number in range(40):
        params = SAMPLERS["tpe"](space, past, f"0/{number}")
        assert SAMPLERS["tpe"](space, past, f"0/{number}") == params
        past.append((params, [-abs(params["a"] - 0.8)]))
    newest = [params["a"] for params, _ in past[-15:]]
    assert sum(abs(value - 0.8) < 0.2 for value in newest) > 10
