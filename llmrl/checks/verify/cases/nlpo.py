"""The functions that answer `cases/nlpo.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from llmrl.ops.logprobs import Kept, kept_logprobs
from llmrl.ops.nucleus import nucleus


def nlpo_mask(given: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    lagging, policy = (
        torch.tensor([given[name]], dtype=getattr(torch, dtype)) for name in ("mask_policy_logits", "policy_logits")
    )
    mask = nucleus(lagging, given["top_p"], always=[given["eos_id"]])
    kept = Kept(mask[0].nonzero()[:, 0], mask.sum(-1))
    whole, _, inside, entropy = kept_logprobs(policy, nn.Identity(), torch.tensor([given["action"]]), kept)
    return {
        "cum_sorted": lagging.softmax(-1).sort(descending=True).values.cumsum(-1)[0].tolist(),
        "mask": mask[0].tolist(),
        "masked_logp": inside.item(),
        "unmasked_logp": whole.item(),
        "masked_entropy": entropy.item(),
    }
