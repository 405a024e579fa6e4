"""The forms that ship: every algorithm under the options that its papers are known for."""

from __future__ import annotations

from llmrl import plugins
from llmrl.checks._form import Form, Oracle
from llmrl.checks._oracle_group import grpo


def _group(name: str, rate: float, oracle: Oracle = grpo, **options: object) -> Form:
    algorithm = plugins.build("algorithm", {"name": "grpo", **options}, name)
    return Form(name=name, algorithm=algorithm, oracle=oracle, baseline=True, rates={"policy": rate})


def forms() -> list[Form]:
    """All of them. The step sizes are for a token that weighs 1/192."""
    return [
        _group("grpo", 20.0, loss_type="grpo", beta=0.01, num_iterations=2),
        _group("dr_grpo", 60.0, loss_type="dr_grpo", max_completion_length=4, scale_rewards="none"),
        _group(
            "dapo", 20.0, epsilon_high=0.28, delta=10.0, num_iterations=2, mask_truncated_completions=True
        ),
        _group(
            "gspo", 20.0, loss_type="grpo", importance_sampling_level="sequence", epsilon=3e-4, epsilon_high=4e-4,
            num_iterations=2,
        ),
        _group("grpo_k1", 20.0, beta=0.01, kl_in_reward=True, kl_estimator="k1", scale_rewards="batch"),
    ]  # fmt: skip
