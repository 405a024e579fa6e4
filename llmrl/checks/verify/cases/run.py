"""Worked cases: numbers that were computed by hand or by another program, and the functions that must give them.

`*.yaml` holds the numbers, one file per subject; the module of the same name says which function answers each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any

import yaml

from llmrl.checks.verify.form import Check

TOLERANCE = 1e-9
SINGLE = 1e-5
"""In float32, for what runs on a device."""

Given = Mapping[str, Any]
Answering = Callable[..., Mapping[str, Any]]
"""Of a case's `given`, and of a torch dtype where it computes with tensors: the numbers, by the names of `want`."""

_GROUP = (
    "grpo",
    "dr_grpo",
    "dapo",
    "gspo",
    "cispo",
    "grpo_top_entropy",
    "grpo_channels",
    "grpo_k1",
    "rloo",
    "rloo_clip",
)
_PLUS = ("reinforce_pp", "reinforce_pp_baseline")
_CRITIC = ("ppo", "vc_ppo", "vapo", "ppo_channels", "nlpo")
_OREAL = ("oreal", "oreal_paper", "oreal_no_rm")
_PREFERENCE = ("dpo", "cdpo", "robust_dpo", "hinge", "ipo", "simpo", "orpo", "cpl", "cpl_kl", "step_apo")
ARCHER = ("archer", "archer_baseline", "archer_expectile", "archer_ppo", "archer_ppo_turn", "archer_kl")
WEBRL = ("webrl", "webrl_mean", "webrl_replay", "webrl_released")
SUBJECTS: Mapping[str, Sequence[str]] = {
    "ppo": (*_CRITIC, *_PLUS),
    "group": (*_GROUP, *_PLUS, *_OREAL, "t1", *_CRITIC),
    "mismatch": (*_GROUP, *_PLUS, *_CRITIC, "t1"),
    "critics": _CRITIC,
    "oreal": _OREAL,
    "a_lol": ("a_lol", "a_lol_ref_free", "a_lol_seq", "a_lol_kl", "r_lol", "gold"),
    "preference": _PREFERENCE,
    "pro": ("pro", "pro_ranking"),
    "kto": ("kto", "kto_without_point"),
    "ilql": ("ilql", "ilql_awac", "xql", "fdvl_tv", "fdvl_chi2", "mc_returns"),
    "bcoder": ("bcoder", "bcoder_values", "bcoder_passed"),
    "turns": ("grpo_turns", "rloo_turns", "reinforce_pp_turns", "ppo_turns"),
    "archer": ARCHER,
    "webrl": WEBRL,
    "t1": ("t1",),
    "nlpo": ("nlpo",),
    "imitation": ("bc_none", "bc_reward", "bc_filtered"),
    "rewards": (),
    "habits": (),
    "restarts": (),
    "reward_models": (),
    "verifiers": (),
    "heron": (),
    "salmon": (),
    "search": (),
    "statistics": (),
    "controls": ("t1", "ppo", "webrl"),
    "curriculum": (),
    "returns": (),
    "tuning": (),
}
"""The subjects, and the forms whose parts they are about."""


def subject(name: str) -> list[dict[str, Any]]:
    """The cases of a subject, as its file has them."""
    text = (files("llmrl.checks.verify.cases") / f"{name}.yaml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text)
    return found


def cases(names: Sequence[str] | None = None) -> list[Check]:
    """Every case of the subjects that the named forms are made of; None: of all subjects."""
    wanted = [name for name, forms in SUBJECTS.items() if names is None or {name, *forms} & set(names)]
    return [check for name in wanted for case in subject(name) for check in _checked(name, case)]


def _checked(name: str, case: Mapping[str, Any]) -> Iterator[Check]:
    label = f"cases: {name}"
    try:
        answer, doubles = _answering(name, case["case"])
        found = answer(case["given"], "float64") if doubles else answer(case["given"])
        single = answer(case["given"], "float32") if doubles else None
    except Exception as error:  # a function that is not there yet, or another than the case was written for
        what = f"{type(error).__name__}: {error}"
        yield Check(label, "cases", case["case"], False, "a function that answers it", f"none ({what})")
        return
    wrong = _difference(case["want"], found, TOLERANCE)
    if wrong is None and single is not None:
        wrong = _difference(case["want"], single, case.get("single", SINGLE))
    for name, known in case.get("never", {}).items():  # what peers got wrong
        for bad in known:
            if wrong is None and (name not in found or close(bad, found[name], TOLERANCE)):
                wrong = (f"{name}, anything but {bad}", "just that" if name in found else "no such result")
    expected, got = wrong or (f"{len(case['want'])} results within {TOLERANCE:g}", "them")
    yield Check(label, "cases", case["case"], wrong is None, expected, got)


def _answering(name: str, case: str) -> tuple[Answering, bool]:
    """The function that answers a case, and whether it takes a dtype."""
    module = import_module(f"llmrl.checks.verify.cases.{name}")
    answer: Answering = getattr(module, case)
    return answer, answer.__code__.co_argcount == 2


def _difference(want: Mapping[str, Any], found: Mapping[str, Any], tolerance: float) -> tuple[str, str] | None:
    """The first result that is not as wanted: what was expected, and what was found."""
    for name, value in want.items():
        if name not in found:
            return f"{name} {value}", "no such result"
        if not close(value, found[name], tolerance):
            return f"{name} {value}", str(found[name])
    return None


def close(want: Any, found: Any, tolerance: float) -> bool:
    """Equal in form, and in every number up to a tolerance, relative for numbers above 1."""
    if isinstance(want, Mapping):
        return set(want) == set(found) and all(close(value, found[key], tolerance) for key, value in want.items())
    if isinstance(want, list):
        same = isinstance(found, Sequence) and len(want) == len(found)
        return same and all(close(a, b, tolerance) for a, b in zip(want, found, strict=True))
    if isinstance(want, bool) or want is None or isinstance(want, str):
        return type(want) is type(found) and bool(want == found)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return bool(abs(want - found) <= tolerance * max(1.0, abs(want)))
