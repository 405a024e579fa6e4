"""Compare the SWE rewards with labelled files: `python benchmarks/repairs.py --data DIR`.

The logs of tests in `swe_smith_logs` against the reports that their grader made, test by test; and the changes in
`swebench/predictions_dev.jsonl`, by how alike each is to the reference's, against whether tests found them right.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from llmrl.ops.judgement import roc_auc
from llmrl.swe.grading import PASSED, STILL_PASSED, repair
from llmrl.swe.logs import read_log
from llmrl.swe.similarity import patch_similarity

GOOD = {"FAIL_TO_PASS": PASSED, "PASS_TO_PASS": STILL_PASSED}


def logs(data: Path) -> None:
    """Test by test, and the verdict."""
    for path in sorted((data / "swe_smith_logs").glob("*/report.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        statuses = read_log((path.parent / "test_output.txt").read_text(encoding="utf-8"))
        labels = {kind: report["tests_status"][kind] for kind in GOOD}
        found = repair(statuses, *([*label["success"], *label["failure"]] for label in labels.values()))
        rows = [(kind, test, how) for kind, label in labels.items() for how, tests in label.items() for test in tests]
        misses = [row for row in rows if (statuses.get(row[1]) in GOOD[row[0]]) != (row[2] == "success")]
        print(
            f"{path.parent.name}: {len(rows) - len(misses)} of {len(rows)} tests as labelled, "
            f"resolved {found.resolved}, labelled {report['resolved']}"
        )
        for miss in misses:
            print("   ", *miss, statuses.get(miss[1]))


def predictions(data: Path) -> None:
    """Measure how well similarity to the reference tells the changes that passed the tests."""
    lines = (data / "swebench/predictions_dev.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    values = [patch_similarity(row["model_patch"] or "", row["gold_patch"]) for row in rows]
    for label in ("resolved", "edited_gold_file"):
        truth = [bool(row[label]) for row in rows]
        kinds = [[v for v, t in zip(values, truth, strict=True) if t == kind] for kind in (True, False)]
        means = [sum(kind) / len(kind) for kind in kinds]
        print(
            f"predictions_dev, {label}: {len(kinds[0])} of {len(rows)}; mean similarity {means[0]:.3f} against "
            f"{means[1]:.3f}, AUC {roc_auc(values, truth):.3f}"
        )
    best = sorted(zip(values, rows, strict=True), key=lambda pair: -pair[0])
    print("most alike of the unresolved:", [(row["id"], round(v, 2)) for v, row in best if not row["resolved"]][:5])
    print("least alike of the resolved:", [(row["id"], round(v, 2)) for v, row in best[::-1] if row["resolved"]][:5])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    arguments = parser.parse_args()
    logs(arguments.data)
    predictions(arguments.data)


if __name__ == "__main__":
    main()
