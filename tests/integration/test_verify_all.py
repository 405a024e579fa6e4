"""Every form that ships, by the command that users type."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmrl.checks.verify.cases.run import SUBJECTS, subject


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_everything_that_ships_is_right(tmp_path: Path) -> None:
    out = tmp_path / "verify.json"
    found = subprocess.run(
        [sys.executable, "-m", "llmrl", "verify", "--json", str(out)],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    checked = [check["name"] for check in json.loads(out.read_text())["checks"] if check["part"] == "cases"]
    assert sorted(checked) == sorted(case["case"] for name in SUBJECTS for case in subject(name))
