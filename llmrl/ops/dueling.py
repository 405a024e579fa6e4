"""Action values that a language model holds: Q of a token is V of the state and the token's lead over the likeliest.

Source: Yu et al. 2024, B-Coder (arXiv 2310.03173).
"""

from __future__ import annotations

from math import log

from torch import Tensor
from torch.nn.functional import softplus


def softabs(numbers: Tensor) -> Tensor:
    """A smooth absolute value: 0 at 0, and never below; about half of abs(x) less 0.69 far from it.

    The paper prints `+ ln 2`, which would bound every value by -0.386.
    """
    return (softplus(numbers) + softplus(-numbers)) / 2 - log(2)


def lead(logprobs: Tensor, peak_logprobs: Tensor, alpha: float) -> Tensor:
    """Advantage of tokens: `alpha` times the log-probability less that of the likeliest token; never above 0.

    The gradient also reaches the likeliest token: the policy is the softmax of the advantages over `alpha`.
    """
    return alpha * (logprobs - peak_logprobs)


def rank_scores(advantages: Tensor, values: Tensor, gamma: float) -> Tensor:
    """(B,) sums of `Q_t - gamma V_(t+1)` over answers of (B, T) advantages and values; V behind the last token is 0.

    It is V of the prompt, the advantages of all tokens, and `1 - gamma` of each later V: between answers to one
    problem, by how far each strays from the likeliest tokens.
    """
    return advantages.sum(-1) + values.sum(-1) - gamma * values[..., 1:].sum(-1)
