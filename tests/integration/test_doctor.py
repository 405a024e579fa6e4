"""The doctor: what it says of this machine, and of machines that lack something."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from llmrl.checks.doctor import machine, probes, versions
from llmrl.checks.doctor import run as doctor
from llmrl.checks.doctor.finding import Finding
from llmrl.train import extensions

PROBE = probes._probe


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {f.name: f for f in findings}


def test_the_quick_look_names_everything_and_what_to_do() -> None:
    found = by_name(doctor.diagnose(quick=True))
    assert {"Python", "vLLM", "packages", "processor", "memory", "disk", "GPU", "git", "bubblewrap"} <= set(found)
    assert {"chromium", "chromedriver", "C compiler"} <= set(found)
    assert "vLLM agrees" not in found
    assert found["Python"].state == "ok"
    assert all(f.next_step for f in found.values() if f.state != "ok")


def test_a_gap_beyond_the_bound_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"probe": "vllm", "dtype": "float32", "start_s": 1, "mean": 1e-7, "max": 1e-6, "reloaded_mean": 0.37}'
    _script(monkeypatch, f"echo '{line}'")
    found = probes.vllm(30)
    assert found.state == "fail"
    assert "after new weights 3.7e-01" in found.detail
    assert "hf" in found.next_step


def test_a_probe_that_hangs_or_dies_fails_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    _script(monkeypatch, "echo loading; sleep 60")
    assert probes.vllm(1.5).detail == "no result within 1.5 s; at last: loading"
    _script(monkeypatch, "echo 'OSError: no such thing'; echo bye; exit 3")
    assert probes.vllm(30).detail == "ended with code 3: OSError: no such thing"


def _script(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """From now on every probe is this shell script."""
    monkeypatch.setattr(probes, "_probe", lambda name, _argv, *rest: PROBE(name, ["sh", "-c", text], *rest))


def test_packages_out_of_range_or_missing_fail() -> None:
    found = versions.required({"pytest": ">=1", "numpy": "<1", "no-such-thing": ">=3"})
    assert found.state == "fail"
    assert "pytest" not in found.detail
    assert "expected <1" in found.detail
    assert "no-such-thing is missing" in found.detail
    assert versions.required({"pytest": ">=1"}).state == "ok"


def test_versions_that_are_not_the_pinned_ones_warn(tmp_path: Path) -> None:
    pins = tmp_path / "cpu.txt"
    pins.write_text(f"# pytest==0\npytest=={pytest.__version__}\nno-such-thing==3\n")
    found = versions.pinned(pins)
    assert (found.state, found.detail) == ("warn", "no-such-thing missing (pinned 3)")
    pins.write_text(f"pytest=={pytest.__version__}\n")
    assert versions.pinned(pins).state == "ok"


@pytest.mark.parametrize(("flags", "state"), [({"avx512f", "avx2"}, "ok"), ({"avx2"}, "warn"), (set(), "warn")])
def test_processors(flags: set[str], state: str) -> None:
    assert machine.processor(flags, 2).state == state


@pytest.mark.parametrize(("cost", "state"), [(0.6, "ok"), (1.4, "ok"), (51.0, "warn")])
def test_products_in_bfloat16_that_are_slow_are_told(cost: float, state: str) -> None:
    found = machine.bfloat16(cost)
    assert found.state == state
    assert bool(found.next_step) is (state == "warn")
    assert f"{cost:.2g} times" in found.detail


def test_the_cost_of_bfloat16_is_measured() -> None:
    assert 0.01 < machine.bfloat16_cost(64) < 1000


def test_missing_programs_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = by_name(machine.findings())
    assert (found["git"].state, found["git"].next_step) == ("warn", "apt-get install git")
    assert found["bubblewrap"].next_step == "apt-get install bubblewrap"


def test_the_table_shows_states_and_the_exit_code_tells() -> None:
    findings = [Finding("a", "ok", "[fine]"), Finding("b", "warn", "z" * 90, "do it")]
    text = io.StringIO()
    doctor.show(findings, Console(file=text, width=100))
    assert "[fine]" in text.getvalue()
    assert text.getvalue().count("z") == 90  # a long word is broken, not cut
    assert "1 ok, 1 warn, 0 fail" in text.getvalue()
    assert doctor.exit_code(findings) == 0
    assert doctor.exit_code([*findings, Finding("c", "fail", "broken", "mend it")]) == 1


def test_a_process_that_a_signal_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    report = "traceback : Signal 9 (SIGKILL) received by PID 7"
    _script(monkeypatch, f"echo '{report}'; echo ====; exit 1")
    assert probes.vllm(30).detail == f"ended with code 1: {report}"


def test_a_check_that_fails_beside_the_other_is_made_again_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([Finding("d", "fail", "no memory", "buy some"), Finding("d", "ok", "2 processes")])
    monkeypatch.setattr(probes, "_compile", lambda: None)
    monkeypatch.setattr(probes, "vllm", lambda _: Finding("v", "ok", "agrees"))
    monkeypatch.setattr(probes, "deepspeed", lambda _: next(results))
    vllm, deepspeed = probes.findings(30)
    assert vllm == Finding("v", "ok", "agrees")
    assert deepspeed == Finding("d", "ok", "2 processes; beside the other check: no memory")


def test_what_is_not_compiled_yet_is_compiled_before_the_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that takes longer than a probe may, here a shell script, is waited for to its end."""
    done = tmp_path / "done"
    monkeypatch.setenv(extensions.FOLDER, str(tmp_path))
    monkeypatch.setattr(probes, "COMPILE", ["sh", "-c", f"sleep 1; touch {done}"])
    for name in ("vllm", "deepspeed"):
        monkeypatch.setattr(probes, name, lambda _: Finding("probe", "ok" if done.exists() else "fail", "started"))
    assert [found.state for found in probes.findings(0.1)] == ["ok", "ok"]
