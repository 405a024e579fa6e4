"""The model card of a run, `README.md` beside its weights: made from the files of the run's folder alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from llmrl.run_folder.inputs import MANIFEST
from llmrl.run_folder.ownership import RECIPE
from llmrl.run_folder.report import measured

CARD = "README.md"
_STEP = re.compile(r"step-(\d+)")


def model_card(run: Path, step: int | None = None, repo: str | None = None) -> str:
    """The card of a run's model, for people and for the hub.

    Args:
        run: the run's folder, with `recipe.yaml` and `manifest.json`.
        step: steps that the model has taken; None: those of the recipe.
        repo: name of the model on a hub, for the lines that load it; None: a path to fill in.
    """
    recipe: dict[str, Any] = yaml.safe_load((run / RECIPE).read_text(encoding="utf-8"))
    manifest = _json(run / MANIFEST)
    steps = recipe["train"]["max_steps"] if step is None else step
    evaluations = dict(_evaluations(run, steps))
    name = (repo or run.name).rpartition("/")[2]
    parts = [
        _front_matter(recipe, evaluations, name),
        f"# {name}\n\n{_story(recipe, manifest, steps)}",
        _use(repo or "path/of/this/folder"),
        _evaluated(evaluations, steps),
        _training(recipe, manifest, steps),
        _repeat(recipe, manifest, run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(recipe: Mapping[str, Any], evaluations: Mapping[int, Mapping[str, Any]], name: str) -> str:
    """The block that the hub reads: library, base model, tags, results."""
    algorithm, base = str(recipe["algorithm"]["name"]), str(recipe["model"]["policy"])
    told: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["llmrl", "reinforcement-learning", algorithm.replace(":", ".")],
    }
    if not Path(base).exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        told["base_model"] = base
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": benchmark, "type": benchmark},
            "metrics": [{"type": measure, "value": round(each["value"], 4)} for measure, each in metrics.items()],
        }
        for benchmark, metrics in (evaluations[max(evaluations)] if evaluations else {}).items()
    ]
    if results:
        told["model-index"] = [{"name": name, "results": results}]
    return f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---"


def _story(recipe: Mapping[str, Any], manifest: Mapping[str, Any], steps: int) -> str:
    reward, data = recipe.get("reward"), recipe.get("data")
    taught = f" against the reward `{reward['name']}`" if reward else ""
    on = f" on `{data['name']}`" if data else ""
    version = manifest.get("packages", {}).get("llmrl", "")
    return (
        f"`{recipe['model']['policy']}`, trained for {steps} steps by `{recipe['algorithm']['name']}`{taught}{on} with "
        f"llmrl {version}.".replace(" .", ".")
    )


def _use(repo: str) -> str:
    return f"""## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo}")
model = AutoModelForCausalLM.from_pretrained("{repo}")
messages = [{{"role": "user", "content": "What is 7 + 5?"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=256)[0]))
```"""


def _evaluated(evaluations: Mapping[int, Mapping[str, Any]], steps: int) -> str:
    """A table of the first and the last evaluation up to these steps."""
    if not evaluations:
        return "## Evaluation\n\nNothing was evaluated in this run."
    lines = ["| benchmark | measure | steps | value | 95 % interval |", "|---|---|--:|--:|---|"]
    for taken in sorted({min(evaluations), max(evaluations)}):
        for benchmark, metrics in evaluations[taken].items():
            lines += [
                f"| {benchmark} | {measure} | {taken} | {' | '.join(measured(measure, each))} |"
                for measure, each in metrics.items()
            ]
    return "## Evaluation\n\nIntervals are over problems, by resampling.\n\n" + "\n".join(lines)


def _training(recipe: Mapping[str, Any], manifest: Mapping[str, Any], steps: int) -> str:
    rollout, train = recipe["rollout"], recipe["train"]
    data = manifest.get("data", {})
    told = {
        "algorithm": _spec(recipe["algorithm"]),
        "reward": _spec(recipe.get("reward")),
        "data": _spec(recipe.get("data")) + "".join(f", {key} {value}" for key, value in data.items() if value),
        "steps": f"{steps} of {rollout['prompts_per_step']} prompts x {rollout['num_generations']} completions",
        "learning rate": f"{train['learning_rate']:g}, {train['lr_scheduler_type']}",
        "completions": f"at most {rollout['max_completion_length']} tokens, temperature {rollout['temperature']:g}",
        "seed": train["seed"],
        "hardware": ", ".join(manifest.get("accelerators") or []) or f"CPU, {manifest.get('processes', 1)} processes",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items()),
    }
    return "## Training\n\n| | |\n|---|---|\n" + "\n".join(
        f"| {key} | {value} |" for key, value in told.items() if value
    )


def _repeat(recipe: Mapping[str, Any], manifest: Mapping[str, Any], run: Path) -> str:
    text = (run / RECIPE).read_text(encoding="utf-8")
    commit = manifest.get("commit")
    at = f", commit `{commit}`" if commit else ""
    return f"""## Repeat

The recipe, every default spelled out; `llmrl train recipe.yaml` takes it{at}.

<details><summary>recipe.yaml</summary>

```yaml
{text.rstrip()}
```

</details>"""


def _spec(spec: Any) -> str:
    """A plug-in in a line; long options and those of no effect are left to the recipe."""
    if not isinstance(spec, Mapping):
        return ""
    options = {key: value for key, value in spec.items() if key != "name" and value not in (None, "", [], {}, False)}
    shown = ", ".join(f"{key} {value}" for key, value in options.items() if len(str(value)) <= 40)
    return f"`{spec['name']}`" + (f" ({shown})" if shown else "").replace("|", "\\|").replace("\n", " ")


def _evaluations(run: Path, steps: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Estimates by benchmark and measure, of each evaluation after at most so many steps."""
    for file in sorted((run / "eval").glob("step-*/results.json")):
        match = _STEP.fullmatch(file.parent.name)
        results = _json(file)
        if match and results and int(match[1]) <= steps:
            yield int(match[1]), {name: result["metrics"] for name, result in results.items()}


def _json(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
