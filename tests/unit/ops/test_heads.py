from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.ops.heads import C51, HEADS, Bernoulli, Head, HLGauss, Scalar, TwoHot, project
from llmrl.plugins import construct

every = pytest.mark.parametrize("name", HEADS)
ranged = pytest.mark.parametrize("name", [name for name in HEADS if name not in ("scalar", "capped")])


def f64(numbers: Any) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def make(name: str, **options: Any) -> Head:
    head: Head = construct(HEADS[name], options, f"critic.head.{name}")
    return head


def test_a_normal_target_worked_by_hand() -> None:
    # Edges 0, .2 ... 1, deviation .15 around .3: Phi at -2, -2/3, 2/3, 2, 10/3, 14/3 is .02275, .25249, .74751,
    # .97725, .99957, 1.00000; differences divided by .97725 - what lies below 0 is lost.
    head = HLGauss(bins=5, padding=0)
    mass = head.probabilities(f64(0.3))
    assert mass.tolist() == pytest.approx([0.23509111942, 0.50653954164, 0.23509111942, 0.02284073634, 0.00043748318])
    assert head.values(mass.log()).item() == pytest.approx(0.3093987844421105)  # drawn inside by what was lost


def test_cross_entropy_and_its_gradient_worked_by_hand() -> None:
    outputs = f64([0.1, 0.4, 0.2, -0.3, 0.0]).requires_grad_()
    head = HLGauss(bins=5, padding=0)
    loss = head.terms(outputs, f64(0.3))
    assert loss.item() == pytest.approx(1.4491662664962588)
    assert head.values(outputs).item() == pytest.approx(0.4654142522868498)
    (gradient,) = torch.autograd.grad(loss, outputs)  # softmax - target
    assert gradient.tolist() == pytest.approx(
        [-0.036291360629, -0.238187936288, -0.015383407484, 0.110418727125, 0.179443977276]
    )


@pytest.mark.parametrize(
    ("options", "decoded"),
    [
        ({"padding": 0.0}, [0.01353228704946702, 0.5, 0.986467712950533]),
        ({"padding": 0.0, "low": -0.1, "high": 1.1}, [1.1362616496686677e-07, 0.5, 0.999999886373835]),
        ({"padding": 0.0, "sigma_ratio": 2.0}, [0.03194422329000296, 0.5, 0.9680557767099971]),
        (
            {"padding": 0.0, "sigma_ratio": 2.0, "low": -0.1, "high": 1.1},
            [0.002037863124983035, 0.5, 0.9979621368750169],
        ),
    ],
)
def test_a_tight_histogram_draws_its_ends_inside_and_a_padded_one_does_not(
    options: dict[str, Any], decoded: list[float]
) -> None:
    head = HLGauss(**options)
    assert head.values(head.probabilities(f64([0.0, 0.5, 1.0])).log()).tolist() == pytest.approx(decoded, abs=1e-9)


@pytest.mark.parametrize("ratio", [0.5, 0.75, 2.0])
def test_padding_by_default_leaves_no_bias_at_the_ends(ratio: float) -> None:
    head = HLGauss(sigma_ratio=ratio, low=-2.0, high=3.0)
    ends = f64([-2.0, 3.0])
    assert (head.values(head.probabilities(ends).log()) - ends).abs().max() < 1e-3 * 5
    low, high = head.support
    assert high - 3.0 == pytest.approx(4 * ratio * head.width)
    assert high - low == pytest.approx(51 * head.width)


def test_two_hot_worked_by_hand() -> None:
    # .3 lies a fifth of the way from .25 to .5; 1.7 is cut to 1.
    head = TwoHot(bins=5)
    mass = head.probabilities(f64([0.3, 0.0, 1.0, 0.25, 1.7]))
    want = [[0, 0.8, 0.2, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert torch.allclose(mass, f64(want), atol=1e-12)
    assert (mass * head.atoms(mass)).sum(-1).tolist() == pytest.approx([0.3, 0.0, 1.0, 0.25, 1.0])


def test_the_projection_of_a_distribution_worked_by_hand() -> None:
    # Places .1, .325, .55, .775, 1 on atoms 0, .25, .5, .75, 1: .1 is 2/5 of a step up, .325 3/10, .55 1/5, .775 1/10.
    atoms, ahead = f64([0, 0.25, 0.5, 0.75, 1]), f64([0.1, 0.2, 0.4, 0.2, 0.1])
    moved = project(ahead, 0.1 + 0.9 * atoms, atoms)
    assert moved.tolist() == pytest.approx([0.06, 0.18, 0.38, 0.26, 0.12])
    assert (moved * atoms).sum().item() == pytest.approx(0.55)
    cut = project(ahead, 0.5 + 0.9 * atoms, atoms)  # .725, .95, 1.175, 1.4 ... are cut to 1
    assert cut.sum().item() == pytest.approx(1.0)
    assert (cut * atoms).sum().item() == pytest.approx(0.1 * 0.5 + 0.2 * 0.725 + 0.4 * 0.95 + 0.3)


def test_a_distribution_that_is_certain_bootstraps_like_its_number() -> None:
    head = C51(bins=11)
    certain, outputs = head.probabilities(f64([0.4])).log().clamp(min=-1e4), torch.randn(1, 11, dtype=torch.float64)
    assert head.bootstrapped(outputs, certain, f64([0.1]), 0.5).item() == pytest.approx(
        head.terms(outputs, f64([0.3])).item()
    )
    assert type(head.terms(outputs, f64([0.3]))) is Tensor


def test_bernoulli_is_binary_cross_entropy_and_two_atoms() -> None:
    logit, targets = f64([[0.7], [0.7], [0.7]]), f64([1.0, 0.0, 0.3])
    chance = 1 / (1 + torch.exp(f64(-0.7)))
    got = Bernoulli().terms(logit, targets)
    assert got.tolist() == pytest.approx((-targets * chance.log() - (1 - targets) * (1 - chance).log()).tolist())
    two = TwoHot(bins=2)  # the logits of failure and success; their difference is the one logit
    assert two.terms(torch.cat([0 * logit, logit], -1), targets).tolist() == pytest.approx(got.tolist())
    assert Bernoulli().values(logit)[0].item() == pytest.approx(chance.item())
    assert Bernoulli(low=-1, high=1).values(f64([0.0])).item() == 0.0
    quarter = Bernoulli(low=-1, high=3).terms(logit[:1], f64([0.0])).item()
    assert quarter == pytest.approx(Bernoulli().terms(logit[:1], f64([0.25])).item())


def test_a_scalar_is_half_the_squared_error() -> None:
    outputs = f64([[0.9], [0.1], [0.5]]).requires_grad_()
    terms = Scalar().terms(outputs, f64([1.0, 1.0, 0.2]))
    assert terms.tolist() == pytest.approx([0.005, 0.405, 0.045])
    (gradient,) = torch.autograd.grad(terms.sum(), outputs)
    assert gradient.squeeze(-1).tolist() == pytest.approx([-0.1, -0.9, 0.3])


def test_a_capped_head_says_nothing_above_its_bound() -> None:
    """softabs(0.5) = (ln(1 + e^0.5) + ln(1 + e^-0.5)) / 2 - ln 2 = 0.0309298."""
    head = make("capped", high=2.0)
    assert head.values(f64([[0.0], [0.5], [-0.5], [40.0]])).tolist() == pytest.approx(
        [2.0, 1.9690702, 1.9690702, 2.0 - 20 + 0.6931472]
    )
    assert head.outside(f64([2.0, 2.1])).tolist() == [0.0, 1.0]


@every
def test_a_head_is_a_value_with_shapes(name: str) -> None:
    head = make(name)
    assert pickle.loads(pickle.dumps(head)) == head
    assert hash(head) == hash(make(name))
    outputs, targets = torch.randn(2, 3, head.outputs), torch.rand(2, 3)
    assert head.values(outputs).shape == head.terms(outputs, targets).shape == head.outside(targets).shape == (2, 3)


@every
def test_gradients_against_finite_differences(name: str) -> None:
    head = make(name)
    outputs = torch.randn(4, head.outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = f64([0.0, 0.37, 1.0, 0.5])
    for of in (lambda x: head.terms(x, targets), head.values):
        assert torch.autograd.gradcheck(of, outputs.requires_grad_())


@every
def test_targets_are_constants(name: str) -> None:
    head = make(name)
    targets = torch.rand(3, requires_grad=True)
    outputs = torch.zeros(3, head.outputs, requires_grad=True)
    (gradient,) = torch.autograd.grad(head.terms(outputs, targets).sum(), targets, allow_unused=True)
    assert gradient is None


@every
def test_bfloat16_outputs_are_computed_in_float32(name: str) -> None:
    head = make(name)
    outputs = torch.randn(5, head.outputs).bfloat16()
    targets = torch.linspace(0, 1, 5)
    with torch.autocast("cpu", torch.bfloat16):
        values, terms = head.values(outputs), head.terms(outputs, targets)
    assert values.dtype == terms.dtype == torch.float32
    assert torch.allclose(values, head.values(outputs.float()), atol=1e-6)
    assert torch.allclose(terms, head.terms(outputs.float(), targets), atol=1e-6)


@every
def test_descent_finds_the_target(name: str) -> None:
    head = make(name)
    targets = f64([0.1, 0.5, 0.9])
    start = float(name == "capped")  # which has no slope at 0
    outputs = torch.full((3, head.outputs), start, dtype=torch.float64, requires_grad=True)
    for _ in range(600):
        (gradient,) = torch.autograd.grad(head.terms(outputs, targets).sum(), outputs)
        outputs = (outputs - 0.5 * gradient).detach().requires_grad_()
    assert (head.values(outputs) - targets).abs().max() < 0.02


@ranged
def test_round_trips_inside_the_range(name: str) -> None:
    head = make(name, low=-1.0, high=2.0)
    targets = torch.linspace(-1, 2, 61)
    if isinstance(head, HLGauss | TwoHot):
        assert (head.values(head.probabilities(targets).log()) - targets).abs().max() < 1e-3 * 3
        assert torch.allclose(head.probabilities(targets).sum(-1), torch.ones(61), atol=1e-6)


@ranged
def test_targets_beyond_the_range_are_cut_and_counted(name: str) -> None:
    head = make(name)
    outputs = torch.randn(1, head.outputs).expand(2, -1)
    near, far = head.terms(outputs, torch.tensor([head.support[1], 50.0]))  # type: ignore[attr-defined]
    assert torch.isfinite(far)
    assert far.item() == pytest.approx(near.item())
    assert head.clipped_share(torch.tensor([0.0, 0.5, 1.0, 50.0])) == 0.25
    assert head.outside(torch.tensor([-50.0, 0.5])).tolist() == [1.0, 0.0]
    assert Scalar().clipped_share(torch.tensor([50.0])) == 0.0


def test_noisy_drifting_targets_are_learned_as_well_as_by_squares() -> None:
    # Four states whose mean drifts and whose noise differs; a table of outputs, plain gradient descent.
    errors = {}
    for name, rate in (("scalar", 0.1), ("hl_gauss", 1.0)):
        head, draw = make(name, **({"low": -1.0, "high": 2.0} if name == "hl_gauss" else {})), torch.Generator()
        draw.manual_seed(0)
        outputs = torch.zeros(4, head.outputs, requires_grad=True)
        total = 0.0
        for step in range(400):
            mean = torch.tensor([0.1, 0.3, 0.6, 0.8]) + 0.1 * step / 400
            seen = mean + torch.tensor([0.02, 0.1, 0.2, 0.4]) * torch.randn(4, generator=draw)
            (gradient,) = torch.autograd.grad(head.terms(outputs, seen).sum(), outputs)
            outputs = (outputs - rate * gradient).detach().requires_grad_()
            total += float((head.values(outputs.detach()) - mean).abs().mean()) * (step >= 100) / 300
        errors[name] = total
    assert errors["hl_gauss"] < 1.05 * errors["scalar"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("bernoulli", {"low": 1.0, "high": 1.0}, "low below high"),
        ("hl_gauss", {"bins": 5}, "padding takes 6"),
        ("hl_gauss", {"sigma_ratio": 0.0}, "sigma_ratio 0.0"),
        ("two_hot", {"bins": 1}, "at least 2 atoms"),
        ("c51", {"atoms": 3}, "unknown key"),
    ],
)
def test_heads_that_cannot_be_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(name, **options)
