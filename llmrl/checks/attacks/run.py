"""Audit rewards: a corpus of cheats, the reward of each compared with that of honest answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmrl import plugins
from llmrl.chat import Chat, load_tokenizer
from llmrl.checks.attacks.attempts import Attempt, Outcome, attempts, honest
from llmrl.checks.attacks.problems import Known
from llmrl.checks.attacks.setups import PROBLEMS, rows, setup
from llmrl.errors import RecipeError
from llmrl.recipe import Recipe, RolloutOptions, read, yaml_text
from llmrl.recipe.ranges import Count
from llmrl.run_folder.report import write_report
from llmrl.scoring.manager import GradingPool, as_group_reward

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["AttackReport", "Attempt", "audit", "exit_code", "run", "save", "shipped", "show"]

ANSWER_S = 30.0
"""Seconds that an answer's grader has at least: rewards that run programs need some, also on a busy machine."""
Kind = Literal["judges", "shapes", "measures", "unfit", "left out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackReport:
    """Result of the attacks on a reward.

    The reward `judges` where right answers score more than wrong ones, `shapes` where its values do not depend on that,
    and `measures` where it has no value. It is `unfit` where a right answer is not rewarded, so that nothing can be
    concluded.
    """

    reward: str
    kind: Kind
    problems: int = 0
    attempts: Sequence[Attempt] = ()
    note: str = ""

    @property
    def failed(self) -> bool:
        """Tell whether a cheat was rewarded, a grader broke, or nothing can be concluded."""
        return self.kind == "unfit" or bool(self.count("PAID") or self.count("BROKE"))

    @property
    def attacks(self) -> list[str]:
        """Names of the attacks that were tried, in their order."""
        return list(dict.fromkeys(attempt.attack for attempt in self.attempts))

    def worst(self, attack: str) -> Attempt:
        """Attempt of an attack with the worst outcome and the highest value."""
        order = ("unpaid", "shaped", "PAID", "BROKE")
        own = (attempt for attempt in self.attempts if attempt.attack == attack)
        return max(own, key=lambda a: (order.index(a.outcome), -1e9 if a.value is None else a.value))

    def count(self, outcome: Outcome) -> int:
        """Count the attacks with this outcome on some problem."""
        return len({attempt.attack for attempt in self.attempts if attempt.outcome == outcome})


def audit(name: str, reward: Any, problems: Sequence[Known], pool: GradingPool) -> AttackReport:
    """Attack a reward.

    Args:
        name: for the report.
        reward: any that `llmrl.scoring.manager.as_group_reward` takes.
        problems: with known answers.
        pool: where it runs, and how long it may take.
    Raises:
        RewardError: it is no reward, or refuses these problems as a whole.
    """
    scorer = as_group_reward(reward, pool)
    answered = [honest(problem, scorer) for problem in problems]
    if all(answers.right.value is None and answers.right.verdict is None for answers in answered):
        return AttackReport(reward=name, kind="measures", problems=len(problems), note="pays nothing")
    unfit = next((answers for answers in answered if answers.unfit), None)
    if unfit is not None:
        score, place = unfit.right, unfit.known.problem.id
        note = (
            f"problem {place}: the right answer {unfit.known.right!r} is {score.verdict}, {score.value}: {score.reason}"
        )
        return AttackReport(reward=name, kind="unfit", problems=len(problems), note=note)
    tried = [attempt for answers in answered for attempt in attempts(answers, scorer)]
    kind: Kind = "judges" if any(answers.judges for answers in answered) else "shapes"
    return AttackReport(reward=name, kind=kind, problems=len(problems), attempts=tried)


def shipped(name: str, pool: GradingPool, options: Mapping[str, Any] | None = None) -> AttackReport:
    """Attack a reward that ships, with the problems and options of its setup."""
    case = setup(name)
    if case.needs and not options:
        return AttackReport(reward=name, kind="left out", note=f"needs {case.needs}")
    reward = plugins.build("reward", {"name": name, **case.options, **(options or {})}, f"reward {name}")
    return audit(name, reward, case.known(), pool)


def exit_code(reports: Sequence[AttackReport]) -> int:
    """Exit code: 1 where a reward rewards a cheat, breaks, or cannot be judged; else 0."""
    return int(not reports or any(report.failed for report in reports))


def show(reports: Sequence[AttackReport], console: Console | None = None) -> None:
    """Print a line for each reward and, for a single or a failed one, a line for each attack."""
    from rich.console import Console
    from rich.table import Table

    console = console or Console()
    table = Table(title="llmrl audit-reward")
    for column in ("reward", "kind", "problems", "attacks", "PAID", "BROKE", "most"):
        table.add_column(column, no_wrap=True)
    for report in reports:
        table.add_row(*row(report), style="bold red" if report.failed else None)
    console.print(table)
    for report in reports:
        if report.note:
            console.print(f"{report.reward}: {report.note}", soft_wrap=True, markup=False, highlight=False)
        _show_attacks(report, console, whole=len(reports) == 1)
    console.print(summary(reports), soft_wrap=True, markup=False, highlight=False)


def summary(reports: Sequence[AttackReport]) -> str:
    """The outcome in a line, the last of the command: how many rewards were attacked, and which failed."""
    attacked = [report for report in reports if report.attempts]
    failed = [report.reward for report in attacked if report.failed]
    counts = {name: sum(report.count(name) for report in attacked) for name in ("PAID", "BROKE")}
    outcome = f"FAILED: {', '.join(failed)}" if failed else "none rewards a cheat"
    left = len(reports) - len(attacked)
    return (
        f"{len(attacked)} rewards attacked{f', {left} not' if left else ''}; {counts['PAID']} attacks PAID, "
        f"{counts['BROKE']} BROKE; {outcome}"
    )


def row(report: AttackReport) -> list[str]:
    """Row of a reward in the table: its kind, the counts, and the most that a cheat scored above a mistake."""
    if not report.attempts:
        return [report.reward, report.kind, str(report.problems or "-"), "-", "-", "-", "-"]
    gains = [a.value - a.wrong for a in report.attempts if a.value is not None and a.wrong is not None]
    most = max(gains, default=0.0)
    counts = [len(report.attacks), report.count("PAID"), report.count("BROKE")]
    return [
        report.reward,
        report.kind,
        str(report.problems),
        *map(str, counts),
        f"{most:+.0f}" if most >= 100 else f"{most:+.3g}",
    ]


def _show_attacks(report: AttackReport, console: Console, whole: bool) -> None:
    """Print the worst outcome of each attack; of several rewards, only those that failed."""
    from rich.table import Table
    from rich.text import Text

    chosen = [a for a in map(report.worst, report.attacks) if whole or a.outcome in ("PAID", "BROKE")]
    if not chosen:
        return
    table = Table(title=report.reward)
    for column in ("attack", "reward", "right", "wrong", "verdict", ""):
        table.add_column(column, no_wrap=column != "attack")
    for attempt in chosen:
        style = {"PAID": "bold red", "BROKE": "bold red", "shaped": "yellow"}.get(attempt.outcome, "")
        cells = [
            attempt.attack,
            *map(_number, (attempt.value, attempt.right, attempt.wrong)),
            attempt.verdict or "-",
            attempt.outcome,
        ]
        table.add_row(*(Text(cell, style=style) for cell in cells))
    console.print(table)
    for a in chosen:
        if a.outcome in ("PAID", "BROKE"):
            line = f"{report.reward}: {a.outcome}: {a.attack}, on {a.problem}: {a.text[-160:]!r}: {a.reason}"
            console.print(Text(line), soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def save(reports: Sequence[AttackReport], path: Path) -> None:
    """Write every attempt as JSON.

    Raises:
        RecipeError: the file cannot be written.
    """
    write_report({"ok": not exit_code(reports), "rewards": [asdict(report) for report in reports]}, path)


def run(
    names: Sequence[str],
    options: Sequence[str] = (),
    recipe: Path | None = None,
    data: str | None = None,
    limit: int = PROBLEMS,
    out: Path | None = None,
) -> int:
    """Run the command `llmrl audit-reward`; returns its exit code.

    Raises:
        RecipeError: no such reward, option, recipe or dataset; options without a single reward to give them to.
    """
    from rich.console import Console

    limit = plugins.converted(Count, limit, "audit-reward.limit")
    _require_writable(out)
    for name in names:
        plugins.find("reward", name)
    made = None if recipe is None else read(recipe)
    given = _options(options)
    if made is not None and names:
        raise RecipeError(
            f"{', '.join(names)} and --recipe {recipe}: expected one of the two; the recipe names a reward"
        )
    if (given or data) and made is None and len(names) != 1:
        raise RecipeError("--option and --data are for one reward: name it")
    rollout = RolloutOptions() if made is None else made.rollout
    console, pool = Console(), GradingPool(rollout.reward_workers, max(rollout.reward_timeout_s, ANSWER_S))
    live = console.status("") if console.is_terminal else nullcontext()
    try:
        with live as line:
            status = line.update if line is not None else str
            if made is not None:
                reports = [_of_recipe(made, given, data, limit, pool)]
            else:
                reports = [_named(name, given, data, limit, pool, status) for name in names or plugins.names("reward")]
    finally:
        pool.close()
    show(reports, console)
    if out is not None:
        save(reports, out)
    return exit_code(reports)


def _named(
    name: str, options: Mapping[str, Any], data: str | None, limit: int, pool: GradingPool, status: Callable[[str], Any]
) -> AttackReport:
    status(name)
    if data is None:
        return shipped(name, pool, options)
    reward = plugins.build("reward", {"name": name, **setup(name).options, **options}, f"reward {name}")
    return audit(name, reward, rows(data, limit), pool)


def _of_recipe(
    recipe: Recipe, options: Mapping[str, Any], data: str | None, limit: int, pool: GradingPool
) -> AttackReport:
    """Attack the reward of a recipe, on its own problems."""
    if recipe.reward is None or (recipe.data is None and data is None):
        raise RecipeError("the recipe has no reward and data to attack: its source generates no answers")
    spec = {**plugins.spec_of("reward", recipe.reward), **options}
    given = data or plugins.spec_of("data", recipe.data)
    problems = rows(given, limit)
    chat = _chat(recipe)
    if chat is not None:
        problems = [replace(each, opened=chat.opened(chat.prompt_ids(each.problem.messages))) for each in problems]
    report = audit(spec["name"], plugins.build("reward", spec, "reward"), problems, pool)
    unseen = f"the chat template of {recipe.model.policy} is not on this machine: attacked as if it opened no thoughts"
    return report if chat is not None else replace(report, note="; ".join(filter(None, (report.note, unseen))))


def _chat(recipe: Recipe) -> Chat | None:
    """The chat of a recipe's policy, whose template may open its thoughts; None where this machine does not have it."""
    from huggingface_hub import try_to_load_from_cache

    model = recipe.model
    if not Path(model.policy).is_dir() and not isinstance(try_to_load_from_cache(model.policy, "config.json"), str):
        return None
    tokenizer = load_tokenizer(model.policy, model.model_revision, model.trust_remote_code)
    return Chat(tokenizer, model.system_prompt, model.chat_template_kwargs)


def _require_writable(out: Path | None) -> None:
    """Refuse a report's place that is none, before anything is attacked.

    Raises:
        RecipeError: it is.
    """
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        found = "a folder" if out.is_dir() else "its folder is not there"
        raise RecipeError(f"--json {out}: {found}; expected a file to write")


def _options(given: Sequence[str]) -> dict[str, Any]:
    """Parse options `key=value`, the value read as YAML.

    Raises:
        RecipeError: no equals sign, or no YAML behind it.
    """
    options = {}
    for option in given:
        key, equals, value = option.partition("=")
        if not equals:
            raise RecipeError(f"--option {option!r}: expected key=value, such as tolerance=0.01")
        if key in options:
            raise RecipeError(f"--option {key}: given twice; expected one value for it")
        options[key] = yaml_text.parse(value, f"--option {option!r:.80}")
    return options
