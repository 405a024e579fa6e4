"""Every option is felt: another value of it changes what comes of its owner, or a list says why that is not tried."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.felt import (
    algorithms,
    curricula,
    data,
    decoding,
    envs,
    foreign,
    models,
    programs,
    rewards,
    runs,
    searches,
    servers,
    sources,
    steps,
    tools,
)
from tests.felt.probe import Probe, felt, open_fields
from tests.felt.unfelt import LATER, NEVER
from tests.options import owners

LEARNING = (algorithms, steps, runs, models)
PLAYING = (sources, decoding, curricula, searches, envs, data, programs, tools)
JUDGING = (rewards, foreign, servers)
PARTS = (*LEARNING, *PLAYING, *JUDGING)
OWNERS = [(name, owner) for name, owner in owners() if open_fields(owner)]
LISTED = {
    (owner, name): reason
    for listed in (NEVER, LATER)
    for reason, owned in listed.items()
    for owner, names in owned.items()
    for name in names.split()
}


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the data sets of this machine: they would decide if a split is felt."""
    monkeypatch.setenv("LLMRL_DATA", str(tmp_path))


@cache
def probes() -> dict[str, list[Probe]]:
    """The probes of each owner, of all parts."""
    made: dict[str, list[Probe]] = {}
    for part in PARTS:
        for name, some in part.probes().items():
            made[name] = [*made.get(name, []), *some]
    return made


@cache
def found(name: str) -> set[str]:
    """Fields of an owner that are felt."""
    return felt(dict(owners())[name], probes().get(name, []))


@pytest.mark.parametrize(("name", "owner"), OWNERS, ids=[name for name, _ in OWNERS])
def test_each_option_is_felt_or_listed(name: str, owner: Any) -> None:
    """A field that is neither: give it a value in tests/felt, or in `unfelt.py` the reason why none can be felt."""
    fields = {each.name for each in open_fields(owner)}
    listed = {field for each, field in LISTED if each == name}
    assert fields - found(name) - listed == set(), f"{name}: nothing changes with them, and no list says why"
    assert listed & found(name) == set(), f"{name}: they are felt; take them off the list"
    assert listed <= fields, f"{name}: on the list, and no option"


def test_what_was_felt(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts: most are felt, and what is listed has a reason that is a sentence."""
    if found.cache_info().currsize < len(OWNERS):
        pytest.skip("it counts what the tests above have found: run the whole file")
    fields = sum(len(open_fields(owner)) for _, owner in OWNERS)
    changed = sum(len(found(name)) for name, _ in OWNERS)
    with capsys.disabled():
        print(f"\noptions: {fields}, felt: {changed}, listed: {len(LISTED)}")
    assert fields == changed + len(LISTED)
    assert all(len(reason.split()) > 4 for reason in LISTED.values())
    assert set(probes()) <= {name for name, _ in OWNERS}
