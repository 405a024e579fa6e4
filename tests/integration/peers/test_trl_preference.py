"""Our losses of pairs beside those of TRL's trainers, on random pairs, wherever the definitions coincide."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.algorithms.preference import Preference
from llmrl.batch import collate
from llmrl.protocols import Forward
from tests.builders import sample
from tests.integration.peers.steps import BOUND, SEEDS, Pair, gaps

PAIRS, PROMPT, WIDTH = 3, 2, 7


class Pairs:
    """Pairs whose answers differ in length: (2 * PAIRS, WIDTH) float64, the chosen answers first, as TRL has them."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, WIDTH - PROMPT + 1, (2 * PAIRS,), generator=generator)
        places = torch.arange(WIDTH)
        self.mask = (places >= PROMPT) & (places < PROMPT + lengths[:, None])
        drawn = -1.5 + 0.35 * torch.randn(2, 2 * PAIRS, WIDTH, generator=generator, dtype=torch.float64)
        self.new, self.ref = torch.where(self.mask, drawn, 0.0)

    def ours(self, algorithm: Preference) -> Pair:
        rows = [
            sample(
                group=f"g{i % PAIRS}",
                episode=i // PAIRS,
                reward=1.0 - i // PAIRS,
                token_ids=[0] * WIDTH,
                turn_ids=[0 if chosen else -1 for chosen in self.mask[i]],
                sampled_logprobs=[0.0] * WIDTH,
                ref_logprobs=self.ref[i].tolist(),
            )
            for i in range(2 * PAIRS)
        ]
        new = self.new.clone().requires_grad_()
        credited = sorted(algorithm.credit(rows), key=lambda row: (row.episode, row.group))
        batch = collate(credited, pack=False, dtype=torch.float64)
        total = (algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights).sum()
        return total.detach(), torch.autograd.grad(total, new)[0]

    def dpo(self, algorithm: Preference) -> Pair:
        """Loss and gradient of `DPOTrainer`, whose models give our log-probabilities."""
        from trl import DPOTrainer

        new = self.new.clone().requires_grad_()
        loss = DPOTrainer._compute_loss(_trainer(self, algorithm), Model(self, new), self.inputs(), False)
        return loss.detach(), torch.autograd.grad(loss, new)[0]

    def inputs(self) -> dict[str, Tensor]:
        ids = torch.zeros_like(self.mask, dtype=torch.int64)
        whole = torch.ones_like(ids)
        return {"input_ids": ids, "attention_mask": whole, "completion_mask": self.mask.long()}


class Model:
    """A model whose tokens have these log-probabilities; TRL's are of the tokens behind the first."""

    training = True

    def __init__(self, pairs: Pairs, logprobs: Tensor) -> None:
        known = torch.where(pairs.mask, logprobs, 0.0)[:, 1:]
        self._output = SimpleNamespace(log_probs=known, entropy=known, mean_logits=known, is_top1=known > -1.0)

    def __call__(self, **_: Any) -> SimpleNamespace:
        return self._output


def _trainer(pairs: Pairs, algorithm: Preference) -> SimpleNamespace:
    """Fields of the trainer that `_compute_loss` reads."""
    return SimpleNamespace(
        accelerator=SimpleNamespace(
            device="cpu",
            gather=lambda x: x,
            gather_for_metrics=lambda x: x,
            unwrap_model=lambda model: model,
            num_processes=1,
        ),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False,
        ld_alpha=None,
        model=SimpleNamespace(training=True),
        precompute_ref_logps=False,
        ref_model=Model(pairs, pairs.ref),
        f_divergence_type="reverse_kl",
        loss_types=[algorithm.loss_type],
        loss_weights=[1.0],
        beta=algorithm.beta,
        label_smoothing=algorithm.label_smoothing,
        use_weighting=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )


DPO: dict[str, dict[str, Any]] = {
    "DPO": {"beta": 0.3},
    "robust DPO": {"loss_type": "robust", "label_smoothing": 0.2},
    "hinge": {"loss_type": "hinge", "beta": 0.5},
    "IPO": {"loss_type": "ipo", "beta": 0.2},
}


@pytest.mark.parametrize("method", DPO)
def test_the_losses_of_dpo_are_those_of_trl(method: str, table: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import trl.trainer.dpo_trainer as module

    monkeypatch.setattr(module, "is_peft_model", lambda model: False)
    monkeypatch.setattr(module, "disable_gradient_checkpointing", lambda *_: torch.no_grad())
    algorithm, worst = Preference(**DPO[method]), (0.0, 0.0)
    for seed in SEEDS:
        pairs = Pairs(seed)
        found = gaps(pairs.ours(algorithm), pairs.dpo(algorithm))
        worst = max(worst[0], found[0]), max(worst[1], found[1])
    table.append((method, "TRL `DPOTrainer._compute_loss`", *worst))
    assert max(worst) < BOUND


def _side_means(pairs: Pairs, new: Tensor) -> list[Tensor]:
    """Mean log-probability of each answer, chosen and rejected, which these trainers compute from their logits."""
    means = torch.where(pairs.mask, new, 0.0).sum(1) / pairs.mask.sum(1)
    return list(means.chunk(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_simpo_is_that_of_trl(smoothing: float, table: list[Any]) -> None:
    from trl.experimental.cpo import CPOTrainer

    algorithm = Preference(loss_type="simpo", beta=2.0, simpo_gamma=0.5, label_smoothing=smoothing)
    options = {"beta": 2.0, "simpo_gamma": 0.5, "label_smoothing": smoothing, "loss_type": "simpo", "alpha": 0.0}
    trainer, worst = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), **options), (0.0, 0.0)
    for seed in SEEDS:
        pairs = Pairs(seed)
        new = pairs.new.clone().requires_grad_()
        loss = CPOTrainer.cpo_loss(trainer, *_side_means(pairs, new))[0].mean()
        found = gaps(pairs.ours(algorithm), (loss.detach(), torch.autograd.grad(loss, new)[0]))
        worst = max(worst[0], found[0]), max(worst[1], found[1])
    table.append((f"SimPO, label smoothing {smoothing}", "TRL `CPOTrainer.cpo_loss`", *worst))
    assert max(worst) < BOUND


def test_the_odds_of_orpo_are_those_of_trl(table: list[Any]) -> None:
    # TRL computes them in float32. Its first term is over prompt and answer; ours, and the paper's, over the answer.
    from trl.experimental.orpo import ORPOTrainer

    algorithm = Preference(loss_type="orpo", beta=0.5, nll_coef=0.0)
    trainer, worst = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), beta=0.5), (0.0, 0.0)
    for seed in SEEDS:
        pairs = Pairs(seed)
        new = pairs.new.clone().requires_grad_()
        loss = -ORPOTrainer.odds_ratio_loss(trainer, *_side_means(pairs, new))[0].mean()
        found = gaps(pairs.ours(algorithm), (loss.detach().double(), torch.autograd.grad(loss, new)[0]))
        worst = max(worst[0], found[0]), max(worst[1], found[1])
    table.append(("ORPO, odds", "TRL `ORPOTrainer.odds_ratio_loss`", *worst))
    assert max(worst) < 1e-6
