"""Commands to type after a run: those that fit the model that it has trained, on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from llmrl.plugins import name_of, names
from llmrl.recipe import Recipe
from llmrl.run_folder.command import program


def after_training(recipe: Recipe, final: Path) -> str:
    """The command that looks at a run's model: its own benchmarks, one of its data or its environment, or a server."""
    engine = name_of("engine", recipe.engine)
    asked = f" --engine {engine}" if engine in ("hf", "server") else ""
    if benchmarks := fitting(recipe):
        return f"{program()} eval {quote(str(final))} --benchmarks {','.join(benchmarks)}{asked}"
    return serving(final)


def serving(final: Path) -> str:
    """The command that serves a model."""
    return f"{program()} serve {quote(str(final))}"


def fitting(recipe: Recipe) -> list[str]:
    """Benchmarks of what the run has learned; none where llmrl has none, as for data of one's own."""
    if recipe.eval.benchmarks:
        return list(recipe.eval.benchmarks)
    known = names("benchmark")
    held = [name_of("env", recipe.env)]
    if recipe.data is not None:
        held += [name_of("data", recipe.data), *_inside(getattr(recipe.data, "of", None))]
    return [name for name in dict.fromkeys(held) if name in known]


def after_demo(out: Path, benchmark: str) -> str:
    """Commands to try on the demo's model, each of which this machine can run."""
    import torch

    llmrl, final = program(), quote(str(out / "final"))
    body = json.dumps(
        {
            "model": str(out / "final"),
            "messages": [{"role": "user", "content": "12+34="}],
            "max_tokens": 8,
            "temperature": 0,
        }
    )
    again = f"recipes/demo.yaml model.policy={quote(str(out / 'sft'))} train.run_name=again train.learning_rate=1e-4"
    train = "recipes/gsm8k_grpo.yaml" if torch.cuda.is_available() else again
    return f"""next:
  {llmrl} eval {final} --benchmarks {benchmark}
  {serving(out / "final")}
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'
  {llmrl} train {train}"""


def _inside(spec: Any) -> list[str]:
    return [str(spec.get("name"))] if isinstance(spec, Mapping) else []
