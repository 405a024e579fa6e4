"""Every reward that ships is attacked: none is paid for what it should not, and the page says what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmrl import plugins
from llmrl.checks.attacks import run as audit
from llmrl.scoring.manager import GradingPool

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(2, audit.ANSWER_S)  # as the command's
    yield pool
    pool.close()


@pytest.mark.parametrize("name", plugins.names("reward"))
def test_no_cheat_is_paid_and_the_page_says_so(name: str, pool: GradingPool) -> None:
    report = audit.shipped(name, pool)
    written = re.search(rf"^\| `{name}` \|(.*)\|$", PAGE, re.MULTILINE)
    assert written is not None, "docs/audit.md has no row; `llmrl audit-reward` prints it"
    assert [cell.strip() for cell in written[1].split("|")][:6] == audit.row(report)[1:]
    if report.kind == "left out":
        pytest.skip(report.note)
    assert not report.failed, report.note or [
        (a.attack, a.text, a.reason) for a in report.attempts if a.outcome in ("PAID", "BROKE")
    ]
