from __future__ import annotations

import pytest
import torch

from llmrl.ops.kl import k1, k2, k3

NEW = torch.tensor([0.5, 0.2, 0.9], dtype=torch.float64).log()
REF = torch.tensor([0.4, 0.3, 0.9], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("estimator", "values", "gradients"),
    [
        # d = log(new/ref) = (.22314, -.40547, 0)
        (k1, [0.2231435513142097, -0.40546510810816416, 0.0], [1.0, 1.0, 1.0]),
        (k2, [0.02489652224655867, 0.08220097694658263, 0.0], [0.2231435513142097, -0.40546510810816416, 0.0]),
        (k3, [0.023143551314209754, 0.0945348918918354, 0.0], [0.2, -0.5, 0.0]),
    ],
)
def test_values_and_gradients_worked_by_hand(estimator, values, gradients) -> None:  # type: ignore[no-untyped-def]
    new = NEW.clone().requires_grad_()
    terms = estimator(new, REF)
    assert terms.tolist() == pytest.approx(values, abs=1e-12)
    assert torch.autograd.grad(terms.sum(), new)[0].tolist() == pytest.approx(gradients, abs=1e-12)


def test_expected_gradients_in_a_loss() -> None:
    """Over all tokens of a softmax: k1 gives nothing, k2 the gradient of KL(new, ref), k3 that of KL(ref, new)."""
    theta = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, theta)[0]

    def expected(estimator) -> torch.Tensor:  # type: ignore[no-untyped-def]
        logprobs = torch.log_softmax(theta, 0)
        return gradient((logprobs.exp().detach() * estimator(logprobs, ref)).sum())

    logprobs = torch.log_softmax(theta, 0)
    reverse = gradient((logprobs.exp() * (logprobs - ref)).sum())
    forward = gradient((ref.exp() * (ref - torch.log_softmax(theta, 0))).sum())
    torch.testing.assert_close(expected(k1), torch.zeros_like(theta), rtol=0, atol=1e-12)
    torch.testing.assert_close(expected(k2), reverse, rtol=0, atol=1e-12)
    torch.testing.assert_close(expected(k3), forward, rtol=0, atol=1e-12)
    assert reverse.tolist() == pytest.approx([0.23032324359058182, -0.21450030759291777, -0.01582293599766401])
    assert forward.tolist() == pytest.approx([0.21232668557957837, -0.24991122337829477, 0.03758453779871642])


@pytest.mark.parametrize("estimator", [k1, k2, k3])
def test_a_difference_out_of_range_stays_finite_and_has_no_gradient(estimator) -> None:  # type: ignore[no-untyped-def]
    new = torch.tensor([-500.0, 500.0], requires_grad=True)
    terms = estimator(new, torch.zeros(2))
    assert terms.isfinite().all()
    assert torch.autograd.grad(terms.sum(), new)[0].tolist() == [0.0, 0.0]
