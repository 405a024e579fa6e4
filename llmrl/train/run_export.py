"""Models of a run: its final one, and those of its checkpoints, exported as folders that everyone can load."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import CheckpointError
from llmrl.recipe import read
from llmrl.run_folder import checksums
from llmrl.run_folder.card import model_card
from llmrl.run_folder.ownership import RECIPE
from llmrl.train import state_file
from llmrl.train.checkpoints import Checkpoints, export
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator
from llmrl.train.policies import recipes_apart

FINAL, BEST, ADAPTER = "final", "best", "adapter"
EXPORTED = "exported"
"""The folder in a run's with models of its checkpoints."""
Say = Callable[[str], None]


def is_run(folder: Path) -> bool:
    """True for the folder of a run, which is no model's."""
    return (folder / RECIPE).is_file() and not (folder / "config.json").exists()


def model_of(run: Path, step: str | None, say: Say = print) -> Path:
    """The model folder of a run after so many steps; it is exported where it is not there yet.

    Args:
        step: a number, `best` by eval, or `final`; None is `final` where there is one, else `best`, else the newest.
        say: told which one it is.
    Raises:
        CheckpointError: no such checkpoint, or none at all.
    """
    best = best_step(run)
    if step == FINAL or (step is None and (run / FINAL / "config.json").is_file()):
        final_of(run)
        hint = "" if step or best is None else f"; the best by eval is after {best} steps: --step best"
        say(f"model: {run / FINAL}{hint}")
        return run / FINAL
    chosen = choose(run, step)
    out = run / EXPORTED / chosen.name
    if not (out / "config.json").is_file():
        export_checkpoint(run, chosen, out)
    say(f"model: {out}, of {chosen}{' (the best by eval)' if steps_of(chosen) == best else ''}")
    return out


def choose(run: Path, step: str | None) -> Path:
    """The checkpoint of a run after so many steps, the best by eval, or by default the best that is kept or the newest.

    Raises:
        CheckpointError: there is none; names those that are there.
    """
    kept = {steps_of(path): path for path in checkpoints_of(run)}
    best = best_step(run)
    if step is None:
        if not kept:
            raise CheckpointError(f"{run}: no checkpoint to export; {_choices(run)}")
        return kept.get(best) or kept[max(kept)] if best is not None else kept[max(kept)]
    if step == BEST:
        if best is None:
            raise CheckpointError(
                f"{run}: no best step: nothing was evaluated in this run (eval.every); {_choices(run)}"
            )
        number = best
    else:
        digits = step.removeprefix("step-")
        if not digits.isdecimal():
            raise CheckpointError(f"--step {step}: expected a number of steps, best or final; {_choices(run)}")
        number = int(digits)
    if number not in kept:
        raise CheckpointError(f"{run}: no checkpoint after {number} steps; {_choices(run)}")
    return kept[number]


def best_step(run: Path) -> int | None:
    """Steps after which the policy was the best by eval, as the newest checkpoint knows; None where none does."""
    for checkpoint in reversed(checkpoints_of(run)):
        try:
            best = state_file.read(checkpoint)["parts"]["evaluation"]["best"]
            return int(best[1]) if best else None
        except (OSError, ValueError, KeyError, TypeError, CheckpointError):
            continue
    return None


def export_checkpoint(run: Path, checkpoint: Path, out: Path) -> None:
    """Write the models of a checkpoint as `final/` has them, those of agents that learn by themselves too. Collective.

    Raises:
        CheckpointError: it is damaged, or sharded over more processes than these; or the disk is full.
    """
    recipe = read(run / RECIPE)
    processes = accelerator(replace(recipe.train, report_to="none"))
    policies = {"": Learners(recipe, processes, recipe.algorithm.needs() - recipe.source.fills())}
    for agent, its in recipes_apart(recipe).items():
        policies[agent] = Learners(its, processes, recipe.algorithm.needs(), agent=agent)
    Checkpoints(run / "checkpoints", processes, recipe.train.save_total_limit).load_models(checkpoint)
    model = recipe.model
    chat = Chat(
        load_tokenizer(model.policy, model.model_revision, model.trust_remote_code),
        model.system_prompt,
        model.chat_template_kwargs,
    )
    stops = chat.stop_token_ids(*policies[""].policy.stop_configs())
    for learners in policies.values():
        learners.policy.stop_at(stops)
    if processes.is_main_process:
        out.parent.mkdir(parents=True, exist_ok=True)
    export(policies, chat.tokenizer, out, model_card(run, steps_of(checkpoint)))


def final_of(run: Path) -> Path:
    """The final model of a run.

    Raises:
        CheckpointError: the run has not ended.
    """
    if not (run / FINAL / "config.json").is_file():
        raise CheckpointError(f"{run}: no {FINAL}/ there: the run has not ended; {_choices(run)}")
    return run / FINAL


def narrowed(whole: Path, out: Path, kind: str) -> None:
    """Make of an exported model its adapter alone, or the merged model alone; "": a copy of both.

    Args:
        whole: a folder that `export` wrote.
        out: written, with checksums of its own; may be `whole`.
    Raises:
        CheckpointError: it has no adapter.
    """
    adapter = whole / ADAPTER
    if kind == ADAPTER and not adapter.is_dir():
        raise CheckpointError(f"{whole}: no adapter there: the run trained all weights; expected model.use_peft: true")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if kind == ADAPTER:
        shutil.copytree(adapter, partial)
        for path in whole.iterdir():  # what goes with either: the tokenizer, its template, the card
            if path.is_file() and path.suffix in (".json", ".jinja", ".md") and "config.json" not in path.name:
                shutil.copy2(path, partial / path.name)
        for path in whole.glob("tokenizer*"):
            shutil.copy2(path, partial / path.name)
        (partial / checksums.FILE).unlink(missing_ok=True)
    else:
        shutil.copytree(whole, partial, ignore=shutil.ignore_patterns(*([ADAPTER] if kind else [])))
    checksums.write(partial, checksums.flushed(partial, checksums.names(partial)))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return sorted((run / "checkpoints").glob("step-" + 6 * "[0-9]"))


def steps_of(checkpoint: Path) -> int:
    """Steps that a checkpoint has behind it."""
    return int(checkpoint.name.removeprefix("step-"))


def _choices(run: Path) -> str:
    kept = [str(steps_of(path)) for path in checkpoints_of(run)] + ([FINAL] if (run / FINAL).is_dir() else [])
    return f"there: {', '.join(kept) or 'nothing'}" + (f"; llmrl export {quote(str(run))} --step N" if kept else "")
