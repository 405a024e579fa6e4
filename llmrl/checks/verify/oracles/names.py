"""Oracles by name, for algorithms of users: `llmrl verify mypkg.mine:Mine --oracle ppo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from llmrl import plugins
from llmrl.checks.verify.form import Numbers, Oracle, OracleAnswer
from llmrl.checks.verify.oracles.a_lol import a_lol
from llmrl.checks.verify.oracles.archer import archer
from llmrl.checks.verify.oracles.bcoder import bcoder
from llmrl.checks.verify.oracles.exploration import oreal, t1
from llmrl.checks.verify.oracles.group import grpo
from llmrl.checks.verify.oracles.ilql import ilql
from llmrl.checks.verify.oracles.imitation import bc
from llmrl.checks.verify.oracles.kto import kto
from llmrl.checks.verify.oracles.ppo import nlpo, ppo
from llmrl.checks.verify.oracles.preference import preference
from llmrl.checks.verify.oracles.pro import pro
from llmrl.checks.verify.oracles.reinforce import reinforce_pp, rloo
from llmrl.checks.verify.oracles.webrl import webrl
from llmrl.errors import RecipeError
from llmrl.samples import Sample

ORACLES: Mapping[str, Oracle] = {
    "a_lol": a_lol,
    "archer": archer,
    "bc": bc,
    "bcoder": bcoder,
    "grpo": grpo,
    "ilql": ilql,
    "kto": kto,
    "nlpo": nlpo,
    "oreal": oreal,
    "ppo": ppo,
    "preference": preference,
    "pro": pro,
    "reinforce_pp": reinforce_pp,
    "rloo": rloo,
    "t1": t1,
    "webrl": webrl,
}
"""Each computes the equation of the algorithm that ships under its name, by the options of the one that it is given."""


class _Options:
    """Options of an algorithm; one that it does not have is what the algorithm that ships has by default."""

    def __init__(self, own: Any, shipped: Any) -> None:
        self._own, self._shipped = own, shipped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name) if hasattr(self._own, name) else getattr(self._shipped, name)


def oracle_named(name: str) -> Oracle:
    """An oracle that ships, or the function `package.module:function`.

    Raises:
        RecipeError: there is none of that name.
    """
    if ":" in name:
        found: Oracle = plugins.find("algorithm", name, "--oracle")
        return found
    if name not in ORACLES:
        raise RecipeError(
            f"unknown oracle {name!r}{plugins.did_you_mean(name, ORACLES)}; known: {', '.join(ORACLES)}, or "
            "package.module:function"
        )
    return partial(_answer, name)


def _answer(name: str, algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    return ORACLES[name](_Options(algorithm, plugins.build("algorithm", {"name": name})), rows, said)
