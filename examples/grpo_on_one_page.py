"""GRPO on one page, without llmrl's loop: what a step does, to be read from top to bottom.

`learn` makes the update that `llmrl.train` makes with the same episodes; `tests/integration/test_examples.py` compares
the weights. What is left out is what a framework is for: batching by tokens, several processes, a fast engine, checks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmrl import tiny

EPSILON = 1e-4  # added to the deviation of a group's rewards


@dataclass
class Episode:
    """An answer: the tokens that were fed, those that were sampled, and its reward."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    reward: float


def sample(model: Any, tokenizer: Any, prompt: str, count: int, tokens: int) -> list[tuple[list[int], list[int]]]:
    """Answer a prompt `count` times: ids of the prompt, and of each completion up to its end token."""
    chat = [{"role": "user", "content": prompt}]
    prompt_ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    rows = model.generate(
        torch.tensor([prompt_ids] * count), do_sample=True, top_k=0, max_new_tokens=tokens, pad_token_id=0
    )[:, len(prompt_ids) :].tolist()
    end = tokenizer.eos_token_id
    return [(prompt_ids, row[: row.index(end) + 1] if end in row else row) for row in rows]


def logprobs(model: Any, episode: Episode) -> torch.Tensor:
    """(completion,) log-probability of each sampled token: the logits before a token decide it."""
    ids = torch.tensor([[*episode.prompt_ids, *episode.completion_ids]])
    every = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), dim=-1)
    chosen = every.gather(1, ids[0, 1:, None])[:, 0]
    return chosen[len(episode.prompt_ids) - 1 :]


def learn(
    model: Any, optimizer: torch.optim.Optimizer, groups: Sequence[Sequence[Episode]], clip: float = 1.0
) -> float:
    """Take one optimiser step of GRPO: all answers of a group are compared with their mean.

    The average is over all tokens of the step, each alike. The policy has not moved since it sampled, so that the ratio
    to the old policy is 1 and nothing is clipped; its gradient is that of the log-probability.
    """
    tokens = sum(len(episode.completion_ids) for group in groups for episode in group)
    loss = torch.zeros(())
    for group in groups:
        rewards = torch.tensor([episode.reward for episode in group], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) / (rewards.std() + EPSILON)
        for episode, advantage in zip(group, advantages.tolist(), strict=True):
            now = logprobs(model, episode)
            ratio = torch.exp(now - now.detach())
            loss = loss - (ratio * advantage).sum() / tokens
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.detach().item()


def main(folder: Path, steps: int = 20) -> float:
    """Teach a random model to answer with digits; the mean reward of the last step."""
    path = tiny.make(folder / "model", vocab="arithmetic", hidden=64, layers=2)
    torch.manual_seed(0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    mean = 0.0
    for step in range(steps):
        groups = []
        for prompt in (f"{number}+{number}=" for number in range(10, 14)):
            answers = [
                (*ids, tokenizer.decode(ids[1], skip_special_tokens=True))
                for ids in sample(model, tokenizer, prompt, 8, 8)
            ]
            groups.append([Episode(p, c, sum(map(str.isdigit, text)) / max(1, len(text))) for p, c, text in answers])
        learn(model, optimizer, groups)
        rewards = [episode.reward for group in groups for episode in group]
        mean = sum(rewards) / len(rewards)
        print(f"step {step + 1}: reward {mean:.3f}")
    return mean


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples"))
