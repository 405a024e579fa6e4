"""Is this algorithm right? Worked cases, an oracle, differences, invariances, and a problem with a known optimum."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl import plugins
from llmrl.checks.verify.form import PARTS, Check, Form, Numbers, Oracle, OracleAnswer, Part
from llmrl.errors import LlmrlError, RecipeError
from llmrl.protocols import Algorithm
from llmrl.run_folder.report import write_report

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Check", "Form", "Numbers", "Oracle", "OracleAnswer", "exit_code", "resolve", "save", "show", "verify"]

QUICK_FIRST: tuple[Part, ...] = ("oracle", "invariances", "differences", "learning")
"""Parts of every form, in the order in which they are looked at."""
SHOWN = 20
"""Lines of failures that `show` prints of one form."""


def resolve(names: Sequence[str], oracle: str | None = None) -> list[Form]:
    """The forms to verify: all that ship where no name is given.

    Args:
        names: of forms that ship (`dapo`; `grpo` brings `grpo: k2` and its others), or `package.module:Attribute` of
            an algorithm, its class, or a `Form`.
        oracle: by which a user's algorithm is compared with its equation; None: the class's own `oracle`, if any.
    Raises:
        RecipeError: no such form, a module that cannot be imported, a thing that is no algorithm, or no such oracle.
    """
    from llmrl.checks.verify.forms import forms

    shipped = {form.name: form for form in forms()}
    found = []
    for name in names:
        if ":" in name:
            found.append(_own(name, oracle))
        elif oracle is not None:
            raise RecipeError(f"--oracle {oracle}: {name} ships and has its own; expected package.module:Attribute")
        elif own := [form for each, form in shipped.items() if each == name or each.startswith(f"{name}: ")]:
            found += own
        else:
            raise RecipeError(
                f"unknown algorithm {name!r}{plugins.did_you_mean(name, shipped)}; known: {', '.join(shipped)}, or "
                "package.module:Attribute"
            )
    if oracle is not None and not found:
        raise RecipeError(f"--oracle {oracle}: of which algorithm? expected package.module:Attribute before it")
    return found or list(shipped.values())


def verify(
    forms: Sequence[Form],
    cases: Sequence[str] | None = None,
    status: Callable[[str], Any] = str,
    processes: int = 1,
    fail_fast: bool = False,
) -> list[Check]:
    """Everything that is checked of the forms.

    Args:
        forms: what to look at.
        cases: whose worked cases to look at, by their subject; None: all that ship.
        status: told what is being looked at.
        processes: look at so many forms at a time; what is found does not depend on it.
        fail_fast: stop at the first part of a form in which a check fails. Of every form what is quick comes first.
    Raises:
        LlmrlError: one of the processes ended, for want of memory, say.
    """
    from llmrl.checks.verify.cases.run import cases as worked

    status("worked cases")
    with _one_thread():
        checks = worked(cases)
    if fail_fast and not all(check.ok for check in checks):
        return checks
    looks = [(form, part) for part in QUICK_FIRST for form in forms if part in form.parts]
    places = [(form.name, part) for form in forms for part in PARTS]
    seen: dict[tuple[str, Part], list[Check]] = {}
    with _spread(forms, processes) as spread:
        for (form, part), found in zip(looks, spread(_look_at, *zip(*looks, strict=True)), strict=True):
            status(f"{form.name}, {part}")
            seen[form.name, part] = found
            if fail_fast and not all(check.ok for check in found):
                break
    return [*checks, *(check for place in places for check in seen.get(place, []))]


def _look_at(form: Form, part: Part) -> list[Check]:
    """Run the checks of a part of a form."""
    from llmrl.checks.verify import differences, invariances, toy
    from llmrl.checks.verify.oracles import compare as oracle

    looks: Mapping[Part, Callable[[Form], list[Check]]] = {
        "oracle": oracle.oracle,
        "differences": differences.differences,
        "invariances": invariances.invariances,
        "learning": form.learns or toy.learning,
    }
    with _one_thread():
        return _looked(form, part, looks[part])


@contextmanager
def _spread(forms: Sequence[Form], processes: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` over fresh processes; the plain one where one is enough, or where a form cannot be sent to another."""
    processes = min(processes, len(forms))
    if processes < 2 or not _portable(forms):
        yield map
        return
    try:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            try:
                yield pool.map
            finally:
                pool.shutdown(cancel_futures=True)  # of a look that stops early
    except BrokenProcessPool as error:
        raise LlmrlError(
            f"llmrl verify: a process ended while it looked at a form ({error}); is memory short?"
        ) from None


def _portable(forms: Sequence[Form]) -> bool:
    try:
        pickle.dumps(forms)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def exit_code(checks: Sequence[Check]) -> int:
    """1 where any check fails, or where there is none; else 0."""
    return int(not checks or not all(check.ok for check in checks))


def show(
    checks: Sequence[Check], seconds: float, console: Console | None = None, uncompared: Sequence[str] = ()
) -> None:
    """A table, a line for each check that failed and for each of `uncompared` forms, then one line that sums it up."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from llmrl.checks.verify.oracles.names import ORACLES

    console = console or Console()
    names = list(dict.fromkeys(check.form for check in checks))
    table = Table(title="llmrl verify")
    table.add_column("algorithm", no_wrap=True, min_width=max(map(len, names), default=0))
    for part in PARTS:
        table.add_column(part)
    for name in names:
        cells = [_cell([c for c in checks if c.form == name and c.part == part]) for part in PARTS]
        table.add_row(name, *(Text(text, style="bold red" if "of" in text else "green") for text in cells))
    console.print(table)
    failed = [check for check in checks if not check.ok]
    for name in dict.fromkeys(check.form for check in failed):
        own = [check for check in failed if check.form == name]
        for check in own[:SHOWN]:
            line = f"{name}, {check.part}, {check.name}: expected {check.expected}; found {check.found}"
            console.print(Text(line), soft_wrap=True)
        if len(own) > SHOWN:
            console.print(f"{name}: and {len(own) - SHOWN} more")
    for name in uncompared:
        line = (
            f"{name}: the equation itself was not compared, without an oracle: a wrong objective passes. Give one "
            'with --oracle NAME, with `oracle: ClassVar[str] = "NAME"` in the class, or with a Form of your own '
            f"(docs/verify.md); names: {', '.join(ORACLES)}, or package.module:function"
        )
        console.print(Text(line, style="yellow"), soft_wrap=True)
    console.print(f"{len(checks) - len(failed)} ok, {len(failed)} failed, in {seconds:.0f} s")


def save(checks: Sequence[Check], seconds: float, path: Path, uncompared: Sequence[str] = ()) -> None:
    """Write the checks as JSON, and which forms have no oracle.

    Raises:
        RecipeError: the file cannot be written.
    """
    rows = [
        {name: getattr(check, name) for name in ("form", "part", "name", "ok", "expected", "found")} for check in checks
    ]
    whole = {"ok": not exit_code(checks), "seconds": round(seconds, 1), "uncompared": list(uncompared), "checks": rows}
    write_report(whole, path)


def run(names: Sequence[str], out: Path | None = None, *, fail_fast: bool = False, oracle: str | None = None) -> int:
    """Run `llmrl verify`; returns its exit code."""
    from rich.console import Console

    forms, console, began = resolve(names, oracle), Console(), time.perf_counter()
    uncompared = [form.name for form in forms if form.oracle is None]
    live = console.status("") if console.is_terminal else nullcontext()
    with live as line:
        tell: Callable[[str], Any] = line.update if line is not None else str
        checks = verify(forms, names or None, tell, len(os.sched_getaffinity(0)), fail_fast)
    seconds = time.perf_counter() - began
    show(checks, seconds, console, uncompared)
    if out is not None:
        save(checks, seconds, out, uncompared)
    return exit_code(checks)


def _own(name: str, oracle: str | None) -> Form:
    """A user's algorithm, by `package.module:Attribute`; with an oracle it gets the random steps of that algorithm."""
    from llmrl.checks.verify.oracles.names import oracle_named

    thing = plugins.find("algorithm", name)
    if isinstance(thing, Form):
        return thing if oracle is None else replace(thing, oracle=oracle_named(oracle))
    algorithm = plugins.build("algorithm", name) if isinstance(thing, type) else thing
    if not isinstance(algorithm, Algorithm):
        raise RecipeError(
            f"{name}: a {type(algorithm).__name__} is no algorithm; expected a frozen dataclass with needs, credit and "
            "updates, or an llmrl.checks.verify.run.Form"
        )
    asked = oracle or getattr(algorithm, "oracle", None)
    if asked is None:
        return Form(name=name, algorithm=algorithm)
    if not isinstance(asked, str):
        return Form(name=name, algorithm=algorithm, oracle=asked)
    return replace(_like(asked, algorithm), name=name, algorithm=algorithm, oracle=oracle_named(asked))


def _like(oracle: str, algorithm: Algorithm) -> Form:
    """The form that ships with an oracle: its random steps, and its problem to learn where that is of any algorithm."""
    from llmrl.checks.verify.forms import forms
    from llmrl.checks.verify.oracles.names import ORACLES

    for form in forms():
        if form.oracle is ORACLES.get(oracle):
            of_its_kind = form.learns is None or isinstance(algorithm, type(form.algorithm))
            parts = form.parts if of_its_kind else tuple(part for part in form.parts if part != "learning")
            return replace(form, baseline=None, parts=parts)
    return Form(name=oracle, algorithm=algorithm)


def _looked(form: Form, part: Part, look: Callable[[Form], list[Check]]) -> list[Check]:
    try:
        return look(form)
    except Exception as error:  # an algorithm may be anybody's
        found = f"{type(error).__name__}: {error}"
        return [Check(form.name, part, "runs", False, "no error", found.splitlines()[0])]


def _cell(checks: Sequence[Check]) -> str:
    """The number of checks that pass, of how many."""
    right = sum(check.ok for check in checks)
    if not checks:
        return "-"
    return f"{right} ok" if right == len(checks) else f"{right} of {len(checks)}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors of a few hundred numbers are slower on several threads than on one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
