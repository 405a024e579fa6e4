"""Losses of reward models: sums over labelled items, never averaged; the trainer divides by their global number.

Logits and targets are made float32 (float64 stays). A label of -100 is ignored. All take right-padded rows, and what is
padded may hold anything.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from llmrl.ops.heads import wide

IGNORED = -100
"""The label of ignored items, which Transformers calls `ignore_index`."""


def bradley_terry(
    chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0, center_rewards_coefficient: float = 0.0
) -> Tensor:
    """(M,) terms of M pairs: softplus(margin - (chosen - rejected)) + c (chosen + rejected)^2.

    Args:
        chosen, rejected: (M,) rewards of the better and the worse answer; they carry the gradient.
        margin: (M,) by how much the better one should win at least; 0 for no such demand.
        center_rewards_coefficient: c; above 0 it pins the constant that differences leave free. 0.01 is usual.
    Source: Bradley and Terry 1952; the margin of Llama 2 (arXiv 2307.09288), the centring of arXiv 2312.09244, eq. 2.
    """
    chosen, rejected = wide(chosen), wide(rejected)
    return -logsigmoid(chosen - rejected - margin) + center_rewards_coefficient * (chosen + rejected).square()


def labelled_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of binary cross-entropies over labelled places; 0 where there is none.

    Args:
        logits: (B, T), with gradient.
        labels: (B, T) 0 to 1, soft ones too; -100 where there is no label: all but the separators that end the steps,
            for a process model; all but the last token, or but the response, for a verifier.
    """
    logits = wide(logits)
    known = labels != IGNORED
    terms = binary_cross_entropy_with_logits(
        logits.where(known, logits.new_zeros(())),
        labels.to(logits).where(known, logits.new_zeros(())),
        reduction="none",
    )
    return terms.where(known, logits.new_zeros(())).sum()


def sequence_bce(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The sum over rows of the mean cross-entropy of their tokens, each of which is asked for the row's label.

    Args:
        logits: (B, T), with gradient.
        labels: (B,) 0 to 1.
        mask: (B, T) True at the tokens of the response; a row without any adds 0.
    Source: the token-level verifiers of Cobbe et al. 2021 (arXiv 2110.14168).
    """
    logits = wide(logits).where(mask, 0.0)
    asked = labels.to(logits)[:, None].expand_as(logits)
    terms = binary_cross_entropy_with_logits(logits, asked, reduction="none").where(mask, 0.0)
    return (terms.sum(-1) / mask.sum(-1).clamp(min=1)).sum()


def mean_logit_bce(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The sum over rows of the cross-entropy between the mean of their tokens' logits and the row's label.

    Args: as for `sequence_bce`.
    Source: the token-level reward model of OREAL (arXiv 2502.06781).
    """
    return binary_cross_entropy_with_logits(mean_logit(logits, mask), labels.to(wide(logits)), reduction="sum")


def mean_logit(logits: Tensor, mask: Tensor) -> Tensor:
    """(B,) the mean of (B, T) logits over the masked tokens of each row; 0 for a row without any."""
    return wide(logits).where(mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)
