"""Summarise judged completions: the numbers of a benchmark, and the table that shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmrl.evaluation.statistics import Estimate, estimate, majority, pass_at_k
from llmrl.run_folder.report import REWARD, measured
from llmrl.types import Problem, is_correct

if TYPE_CHECKING:
    from rich.table import Table

Record = Mapping[str, Any]
"""One line of `<benchmark>.jsonl`: see `llmrl.evaluation.evaluate`."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """Judged attempts at a problem; those that could not be judged are left out."""

    problem: Problem
    right: Sequence[bool]
    answers: Sequence[str | None]


def summarise(
    problems: Sequence[Problem],
    records: Mapping[tuple[str, int], Record],
    samples: int,
    by: Sequence[str],
    seed: int,
    is_judged: bool | None = True,
) -> dict[str, Any]:
    """Compute the result of a benchmark, as plain values.

    A completion that no grader could judge is left out of every mean and counted as `unjudged`; a problem of which no
    completion could be judged is left out with it. Only `correct` counts as right.

    Args:
        problems: in the order of the dataset.
        records: by problem id and sample number; those of other problems and samples are ignored.
        samples: completions per problem.
        by: keys of `Problem.info`.
        seed: of the intervals.
        is_judged: False where no completion has a verdict: parts are means, and what broke is `unjudged`. None adds
            the mean `reward`, and measures what is right where there are verdicts.
    """
    kept = [records[problem.id, index] for problem in problems for index in range(samples)]
    tried = [_attempts(problem, [records[problem.id, index] for index in range(samples)]) for problem in problems]
    means = {} if is_judged is not None else _mean_rewards(problems, records, samples, seed)
    if is_judged is None:
        is_judged = any(is_correct(record["verdict"]) is not None for record in kept)
    judged = [each for each in tried if each.right and (is_judged or not means)]
    broken = [record["value"] is None and (is_judged or record["verdict"] is not None) for record in kept]
    lengths = [record["tokens"] for record in kept if record["finish"] is not None and record["tokens"] is not None]
    return {
        "problems": len(problems),
        "samples": samples,
        "unjudged": sum(broken),
        "unjudged_problems": len(tried) - len(judged) if is_judged else 0,
        "metrics": {name: each.as_dict() for name, each in (*_metrics(judged, samples, seed), *means.items())},
        "parts": _parts(kept),
        "by": {key: _breakdown(judged, key, samples, seed) for key in by if is_judged},
        "verdicts": dict(sorted(Counter(str(record["verdict"]) for record in kept).items())),
        "mean_tokens": sum(lengths) / len(lengths) if lengths else None,
        "truncated": sum(record.get("cut_off", record["finish"] == "length") for record in kept) / max(len(kept), 1),
    }


def per_problem(
    problems: Sequence[Problem], records: Mapping[tuple[str, int], Record], samples: int
) -> dict[str, float]:
    """Share of right attempts of each problem that could be judged, for `difference`."""
    tried = (_attempts(problem, [records[problem.id, index] for index in range(samples)]) for problem in problems)
    return {each.problem.id: sum(each.right) / len(each.right) for each in tried if each.right}


def flat(name: str, result: Mapping[str, Any]) -> dict[str, float]:
    """Flatten a result to metrics of a run: `eval/gsm8k/avg@1` and so on."""
    metrics = {f"eval/{name}/{key}": each["value"] for key, each in result["metrics"].items()}
    metrics |= {f"eval/{name}/parts/{part}": mean for part, mean in result.get("parts", {}).items()}
    metrics[f"eval/{name}/unjudged"] = float(result["unjudged"])
    metrics[f"eval/{name}/truncated"] = result["truncated"]
    if result["mean_tokens"] is not None:
        metrics[f"eval/{name}/mean_tokens"] = result["mean_tokens"]
    return metrics


def table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Table with a line for every measure, subject and level of each benchmark, and one on lengths and failures."""
    from rich.table import Table

    shown = Table("benchmark", "measure", "value", "95 % interval", "problems")
    for name, result in results.items():
        for measure, each in result["metrics"].items():
            shown.add_row(name, measure, *measured(measure, each), str(result["problems"]), style="bold")
        for key, groups in result["by"].items():
            for value, part in groups.items():
                measure = f"avg@{result['samples']}"
                shown.add_row("", f"{key} {value}", *measured(measure, part[measure]), str(part["problems"]))
        for part, mean in result.get("parts", {}).items():
            shown.add_row("", f"{part}, mean", f"{mean:.3f}")
        if result["mean_tokens"] is not None:
            shown.add_row("", "tokens, mean", f"{result['mean_tokens']:.0f}")
        shown.add_row("", "cut off by a limit", f"{result['truncated']:.1%}")
        shown.add_row("", "unjudged", str(result["unjudged"]), style="red" if result["unjudged"] else None)
        shown.add_section()
    return shown


def _parts(records: Sequence[Record]) -> dict[str, float]:
    """Mean of each part of the reward over the completions that have it."""
    names = sorted({name for record in records for name in record.get("parts", {})})
    given = {name: [v for record in records if (v := record.get("parts", {}).get(name)) is not None] for name in names}
    return {name: sum(values) / len(values) for name, values in given.items() if values}


def _attempts(problem: Problem, records: Sequence[Record]) -> Attempts:
    judged = [record for record in records if record["value"] is not None]
    return Attempts(
        problem, [is_correct(record["verdict"]) is True for record in judged], [record["final"] for record in judged]
    )


def _metrics(judged: Sequence[Attempts], samples: int, seed: int) -> Iterator[tuple[str, Estimate]]:
    """Yield avg@k, then for several samples pass@2, 4 ... k and maj@k; pass@k over problems with k judged attempts.

    Benchmarks of programs are compared by pass@10 and pass@100, so these are among them.
    """
    if not judged:
        return
    yield f"avg@{samples}", estimate([sum(each.right) / len(each.right) for each in judged], seed)
    if samples == 1:
        return
    powers = {2**power for power in range(1, samples.bit_length())}
    for k in sorted(k for k in powers | {10, 100, samples} if k <= samples):
        passed = [pass_at_k(len(each.right), sum(each.right), k) for each in judged if len(each.right) >= k]
        if passed:
            yield f"pass@{k}", estimate(passed, seed)
    yield f"maj@{samples}", estimate([float(majority(each.answers, each.right)) for each in judged], seed)


def _mean_rewards(
    problems: Sequence[Problem], records: Mapping[tuple[str, int], Record], samples: int, seed: int
) -> dict[str, Estimate]:
    """The mean `reward` over the problems of which some completion has one; nothing where none has."""
    values = [[records[each.id, index]["value"] for index in range(samples)] for each in problems]
    given = [known for each in values if (known := [value for value in each if value is not None])]
    return {REWARD: estimate([sum(each) / len(each) for each in given], seed)} if given else {}


def _breakdown(judged: Sequence[Attempts], key: str, samples: int, seed: int) -> dict[str, Any]:
    groups: dict[str, list[float]] = {}
    for each in judged:
        groups.setdefault(str(each.problem.info.get(key, "unknown")), []).append(sum(each.right) / len(each.right))
    return {
        value: {"problems": len(shares), f"avg@{samples}": estimate(shares, seed).as_dict()}
        for value, shares in sorted(groups.items())
    }
