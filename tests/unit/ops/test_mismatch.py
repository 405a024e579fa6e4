from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmrl.batch import Batch, collate
from llmrl.errors import RecipeError
from llmrl.ops.mismatch import (
    BOUNDS,
    Correction,
    Mode,
    alarm,
    diagnostics,
    off_policy_mask,
    require_scaled,
    step_metrics,
)
from llmrl.ops.ratio_options import Clipped
from llmrl.plugins import build, names
from llmrl.samples import Sample
from tests.builders import sample

SAMPLED = torch.tensor([[0.5, 0.1, 0.9, 0.02]], dtype=torch.float64).log()
OLD = torch.tensor([[0.48, 0.3, 0.9, 0.05]], dtype=torch.float64).log()  # ratios .96, 3, 1, 2.5
ALL = torch.ones(1, 4, dtype=torch.bool)


def row(sampled: Sequence[float], old: Sequence[float] | None = None, mask: Sequence[bool] | None = None) -> Sample:
    return sample(
        group="g",
        episode=3,
        reward=0.0,
        turn_rewards=[0.0],
        token_ids=[0] * len(sampled),
        turn_ids=[0] * len(sampled),
        action_mask=list(mask) if mask else [True] * len(sampled),
        sampled_logprobs=list(sampled),
        old_logprobs=list(old) if old else None,
    )


def drifted(length: int, step: float) -> tuple[Batch, Tensor]:
    """A row whose log-ratio is `step` at every token."""
    batch = collate([row([-1.0] * length)], pack=False)
    return batch, batch.sampled_logprobs + step


def weights(mode: Mode, floor: float | None = None, cap: float | None = None) -> list[float]:
    batch = collate([row(SAMPLED[0].tolist())], pack=False).with_columns(sampled_logprobs=SAMPLED)
    got: list[float] = Correction(mode, floor, cap).weights(OLD, batch)[0].tolist()
    return got


@pytest.mark.parametrize(
    ("mode", "floor", "cap", "want"),
    [  # The product of the ratios is 7.2, their geometric mean 7.2 ** .25 = 1.638, the mean k3 .3715.
        ("token_truncate", None, None, [0.96, 2.0, 1.0, 2.0]),
        ("token_truncate", 0.98, 2.6, [0.98, 2.6, 1.0, 2.5]),
        ("token_mask", None, None, [0.96, 0.0, 1.0, 0.0]),
        ("token_mask", 0.97, 2.6, [0.0, 0.0, 1.0, 2.5]),
        ("sequence_truncate", None, None, [2.0] * 4),
        ("sequence_truncate", None, 8.0, [7.2] * 4),
        ("sequence_mask", None, None, [0.0] * 4),
        ("sequence_mask", None, 8.0, [7.2] * 4),
        ("geometric_mask", None, None, [0.0] * 4),
        ("geometric_mask", None, 1.63, [0.0] * 4),
        ("geometric_mask", None, 1.64, [1.0] * 4),
        ("k3_mask", None, None, [0.0] * 4),
        ("k3_mask", None, 0.3714, [0.0] * 4),
        ("k3_mask", None, 0.3715, [1.0] * 4),
        ("none", None, None, [1.0] * 4),
    ],
)
def test_weights_worked_by_hand(mode: Mode, floor: float | None, cap: float | None, want: list[float]) -> None:
    assert weights(mode, floor, cap) == pytest.approx(want, abs=1e-12)


def test_every_mode_has_bounds_or_needs_none() -> None:
    assert set(get_args(Mode)) == {*BOUNDS, "none"}


@pytest.mark.parametrize("mode", get_args(Mode))
def test_agreement_weighs_exactly_one_and_nothing_carries_a_gradient(mode: Mode) -> None:
    batch, old = drifted(5, 0.0)
    old = old.clone().requires_grad_()
    weight = Correction(mode).weights(old, batch)
    assert weight.tolist() == [[1.0] * 5]
    assert not weight.requires_grad
    terms, metrics = Correction(mode).apply(torch.full((1, 5), -3.0), old, batch)
    assert terms.tolist() == [[-3.0] * 5]
    assert not any(number.requires_grad for number in metrics.values())
    assert bool(metrics) == (mode != "none")


def test_a_product_rejects_what_is_long_and_nothing_else_does() -> None:
    # A log-ratio of .01 a token: the product is 1.105 of 10 tokens, 2.718 of 100 and 22,026 of 1,000. A cap of 3 on it
    # keeps the first two and throws the third away, as a peer's default does. The other modes see .01 at any length.
    def kept(mode: Mode, length: int, cap: float | None = None) -> bool:
        batch, old = drifted(length, 0.01)
        return bool(Correction(mode, cap=cap).weights(old, batch).all())

    assert [kept("sequence_mask", n) for n in (10, 100, 1000)] == [True, True, False]
    assert [kept(Clipped().importance_sampling_correction, n) for n in (10, 100, 1000)] == [True] * 3, "by default"
    others: dict[Mode, float | None] = {"token_truncate": 2, "token_mask": 2, "geometric_mask": 1.011, "k3_mask": 1e-3}
    for mode, cap in others.items():
        assert [kept(mode, n, cap) for n in (10, 100, 1000)] == [True] * 3, mode
    assert not kept("geometric_mask", 10, 1.0099)
    batch, old = drifted(1000, 0.01)
    assert Correction("sequence_truncate").weights(old, batch).unique().tolist() == [2.0]
    bounded = Correction("sequence_mask").bounded(old, batch)[0, 0].item()
    assert bounded == pytest.approx(22026.465794806718, rel=1e-3)  # float32


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), mode=st.sampled_from(get_args(Mode)))
def test_packed_and_padded_rows_have_the_same_weights(seed: int, mode: Mode) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(5):
        length = int(torch.randint(1, 9, (), generator=generator))
        mask = [True, *(bool(x) for x in torch.randint(2, (length - 1,), generator=generator))]
        sampled, old = (torch.randn(2, length, generator=generator) * 0.3 - 1).tolist()
        rows.append(row([x if on else 0.0 for x, on in zip(sampled, mask, strict=True)], old, mask))
    found = []
    for pack in (False, True):
        batch = collate(rows, pack)
        junk = torch.where(batch.action_mask, batch.old_logprobs, torch.full_like(batch.old_logprobs, 9.0))
        weight = Correction(mode, 0.0 if mode == "k3_mask" else 0.8, 1.3).weights(junk, batch)
        found.append([weight[(batch.sample_ids == i) & batch.action_mask].tolist() for i in range(5)])
    assert found[0] == [pytest.approx(values, abs=1e-6) for values in found[1]]


@pytest.mark.parametrize(
    ("mode", "floor", "cap"),
    [
        ("token_truncate", None, 0.5),
        ("token_mask", 1.1, None),
        ("sequence_mask", -0.1, None),
        ("geometric_mask", None, 0.9),
        ("k3_mask", None, 0.0),
        ("k3_mask", 0.1, None),
    ],
)
def test_bounds_that_exclude_agreement_are_refused(mode: Mode, floor: float | None, cap: float | None) -> None:
    with pytest.raises(ValueError, match="importance_sampling_"):
        Correction(mode, floor, cap)


def test_metrics_worked_by_hand() -> None:
    batch = collate([row(SAMPLED[0].tolist())], pack=False).with_columns(sampled_logprobs=SAMPLED)
    metrics = {name: x[0].tolist() for name, x in Correction("token_mask").apply(SAMPLED, OLD, batch)[1].items()}
    assert metrics["sampling/importance_sampling_ratio/mean"] == pytest.approx([0.96, 0, 1, 0])
    assert metrics["sampling/importance_sampling_ratio/square_mean"] == pytest.approx([0.96**2, 0, 1, 0])
    assert metrics["sampling/sampling_logp_difference/mean"] == pytest.approx([-log(0.96), log(3), 0, log(2.5)])
    assert metrics["sampling/above_cap"] == [0, 1, 0, 1]
    assert metrics["sampling/below_floor"] == [0, 0, 0, 0]
    means = {name: sum(values) / 4 for name, values in metrics.items()}
    assert means["sampling/k1"] == pytest.approx(-0.49352025650550235)
    assert means["sampling/k3"] == pytest.approx(0.3714797434944974)
    assert means["sampling/chi2"] == pytest.approx(3.2929)


def test_a_row_is_dropped_where_the_policy_left_it_and_it_was_bad() -> None:
    # Mean of sampled - new: .5 of the first and third row, .1 of the second.
    rows = [row([-1.0, -2.0]), row([-1.0, -1.0]), row([-1.0, -1.0])]
    rows = [r.assign(advantages=gain) for r, gain in zip(rows, (-1.0, -1.0, 1.0), strict=True)]
    drift = torch.tensor([[0.2, 0.8], [0.1, 0.1], [0.5, 0.5]])
    batch = collate(rows, pack=False)
    new = (batch.sampled_logprobs - drift).requires_grad_()
    kept = off_policy_mask(new, batch, 0.3)
    assert kept.tolist() == [[0, 0], [1, 1], [1, 1]]
    assert not kept.requires_grad
    packed = collate(rows, pack=True)
    assert off_policy_mask(packed.sampled_logprobs - drift.view(1, 6), packed, 0.3).tolist() == [[0, 0, 1, 1, 1, 1]]


def test_diagnostics_worked_by_hand() -> None:
    numbers = diagnostics(OLD, SAMPLED, ALL, cap=2.0)
    p, q = (side.exp()[0] - side.exp().mean() for side in (OLD, SAMPLED))
    assert numbers == pytest.approx(
        {
            "abs/mean": (0.0408219945202552 + 1.0986122886681098 + 0 + 0.9162907318741551) / 4,
            "abs/max": 1.0986122886681098,
            "k1": -0.49352025650550235,
            "k3": 0.3714797434944974,
            "chi2": 3.2929,
            "perplexity_ratio": 0.6104735835807844,
            "above_cap": 0.5,
            "ess": 0.8950572488308337,
            "correlation": float((p * q).sum() / (p.square().sum() * q.square().sum()).sqrt()),
        },
        abs=1e-9,
    )


def test_diagnostics_read_action_tokens_only() -> None:
    mask = torch.tensor([[True, False, True, False]])
    assert diagnostics(OLD, SAMPLED, mask)["abs/max"] == pytest.approx(0.0408219945202552)
    assert diagnostics(OLD, SAMPLED, torch.zeros_like(mask)) == {}
    assert "correlation" not in diagnostics(OLD[:, :1], SAMPLED[:, :1], ALL[:, :1])


def test_a_step_is_told_apart_by_length_and_by_lag() -> None:
    def k3(step: float) -> float:
        return exp(step) - 1 - step

    rows = [
        replace(row([-1.0] * 100, [-1.0] * 100), version=7),
        replace(row([-1.0] * 300, [-1.1] * 300), version=7),
        replace(row([-1.0] * 300, [-0.8] * 300, [True] * 200 + [False] * 100), version=5),
    ]
    metrics = step_metrics(rows, version=7)
    assert metrics["staleness/mean"] == pytest.approx(2 / 3)
    assert metrics["staleness/max"] == 2
    # 100 tokens agree, 300 have a log-ratio of -.1, 200 of .2; 100 of the last row are no actions.
    assert metrics["sampling/k3"] == pytest.approx((300 * k3(-0.1) + 200 * k3(0.2)) / 600, rel=1e-5)
    assert metrics["sampling/abs/max"] == pytest.approx(0.2)
    assert metrics["sampling/k3/to_256_tokens"] == pytest.approx(200 * k3(0.2) / 300, rel=1e-5)
    assert metrics["sampling/k3/to_1024_tokens"] == pytest.approx(k3(-0.1), rel=1e-5)
    assert metrics["sampling/k3/lag_0"] == pytest.approx(300 * k3(-0.1) / 400, rel=1e-5)
    assert metrics["sampling/k3/lag_2"] == pytest.approx(k3(0.2), rel=1e-5)
    assert "sampling/k3/to_4096_tokens" not in metrics
    assert metrics["sampling/alarm"] == 1  # .00955


def test_a_step_without_old_log_probabilities_still_has_its_age() -> None:
    assert step_metrics([], version=3) == {}
    assert step_metrics([replace(row([-1.0]), version=2)], version=3) == {"staleness/mean": 1.0, "staleness/max": 1.0}
    other = replace(row([-1.0], [-2.0]), version=3, semantics="raw")
    assert step_metrics([other], version=3) == {"staleness/mean": 0.0, "staleness/max": 0.0}


def test_alarms() -> None:
    assert [alarm(divergence) for divergence in (1e-4, 1e-3, 2e-3, 1e-2, 2e-2)] == [0, 0, 1, 1, 2]


def test_log_probabilities_of_another_distribution_are_refused() -> None:
    # Logits 2, 1, 0, -1 at temperature .6, token 0. A ratio against the raw log-probability would be 1.26 and against
    # the one renormalised over what top-p .8 leaves (at temperature 1) .88, although the policies are the same.
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0], dtype=torch.float64)
    raw, scaled = logits.log_softmax(-1)[0], (logits / 0.6).log_softmax(-1)[0]
    assert (scaled - raw).exp().item() == pytest.approx(1.2612827940743405)
    assert (raw - logits[:2].log_softmax(-1)[0]).exp().item() == pytest.approx(0.8807970779778824)
    require_scaled([row([float(scaled)])])
    for semantics in ("renormalised", "raw"):
        with pytest.raises(RecipeError, match=rf"group g, episode 3.*'{semantics}'.*top_p=1"):
            require_scaled([row([0.0]), replace(row([0.0]), semantics=semantics)])  # type: ignore[arg-type]
    correcting = [
        one for one in (build("algorithm", name) for name in names("algorithm")) if hasattr(one, "correction")
    ]
    assert len(correcting) >= 4
    for algorithm in correcting:
        with pytest.raises(RecipeError, match=r"'raw'|return_kept_ids"):
            algorithm.credit([replace(row([0.0]), semantics="raw")])
