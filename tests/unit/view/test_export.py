from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llmrl.errors import DataError, LlmrlError
from llmrl.view.export import write
from tests.view_runs import HOSTILE, write_evaluation, write_run


def data_of(page: str) -> dict[str, object]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    found: dict[str, object] = json.loads(text)
    return found


def test_everything_is_in_one_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3, count=6, texts=HOSTILE)
    write_evaluation(run / "eval" / "step-000000", [True, False])
    write_evaluation(run / "eval" / "step-000003", [False, True])
    size = write([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert size == len(page.encode())
    assert not re.search(r"""(?:src|href)=["'](?!data:,)""", page), "nothing is fetched"
    assert len(re.findall("<script", page)) == len(re.findall("</script", page)) == 2, "no text is an element"
    data = data_of(page)
    assert set(data["episodes"]) == {"run"}  # type: ignore[arg-type]
    assert set(data["episode"]) == {f"run\n2\n{row}" for row in range(6)}  # type: ignore[arg-type]
    assert data["episode"]["run\n2\n0"]["turns"][0]["text"] == HOSTILE[0]  # type: ignore[index]
    assert len(data["comparisons"]) == 16  # type: ignore[arg-type]
    assert "sha256-" in page.partition("Content-Security-Policy")[2][:400]


def test_steps_and_episodes_are_chosen(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3, count=6)
    write([run], tmp_path / "page.html", steps=[0, 1, 99], episodes=4)
    data = data_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert sorted(data["episode"]) == ["run\n0\n0", "run\n0\n1", "run\n1\n0", "run\n1\n1"]  # type: ignore[call-overload]


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    with pytest.raises(DataError, match=r"ends in \.html"):
        write([run], tmp_path / "page")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no run in there"):
        write([tmp_path / "empty"], tmp_path / "page.html")
    with pytest.raises(LlmrlError, match="cannot be written"):
        write([run], tmp_path / "nowhere" / "page.html")
