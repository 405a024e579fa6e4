"""Does the algorithm compute its equation? It is compared with an oracle that was written from that alone."""

from __future__ import annotations

from llmrl.checks.verify.form import Check, Form, OracleAnswer
from llmrl.checks.verify.objective import Learned, annotated, finite, learned, said_of
from llmrl.checks.verify.random_rows import play_for

TOLERANCE = 1e-10
SEEDS = tuple(range(8))


def oracle(form: Form) -> list[Check]:
    """Two checks for each model, objective and gradient, over several random steps; none without an oracle."""
    if form.oracle is None:
        return []
    gaps: dict[tuple[str, str], float] = {}
    for seed in SEEDS:
        play = play_for(form, seed)
        rows = annotated(form.algorithm, play.rows)
        said = [{name: column.detach() for name, column in one.items()} for one in said_of(play)]
        found = learned(form.algorithm, rows, said)
        wanted = form.oracle(form.algorithm, rows, [{name: c.tolist() for name, c in one.items()} for one in said])
        for model in sorted({*found, *wanted}):
            for name, gap in _gaps(found.get(model), wanted.get(model)).items():
                gaps[model, name] = max(gaps.get((model, name), 0.0), gap)
    return [
        Check(
            form.name,
            "oracle",
            f"{model}'s {name}",
            bool(gap <= TOLERANCE),
            f"within {TOLERANCE:g} of the equation",
            f"largest gap {gap:.1e}",
        )
        for (model, name), gap in gaps.items()
    ]


def _gaps(found: Learned | None, wanted: OracleAnswer | None) -> dict[str, float]:
    if found is None or wanted is None:
        return {"presence": float("inf")}
    worst = 0.0
    names = {name for _, name in found.gradients} | set(wanted.gradients)
    for name in names:
        for row, slopes in enumerate(wanted.gradients.get(name) or []):
            known = found.gradients.get((row, name))
            got = [0.0] * len(slopes) if known is None else known.tolist()
            worst = max([worst, *(finite(a - b) for a, b in zip(got, slopes, strict=True))])
        if name not in wanted.gradients:
            worst = max([worst, *(finite(float(g.abs().max())) for (_, n), g in found.gradients.items() if n == name)])
    return {"objective": finite(found.objective - wanted.objective), "gradient": worst}
