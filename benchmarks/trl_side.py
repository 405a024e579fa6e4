"""TRL's side of grpo_vs_trl.py: its own trainer, as a user would set it up, with a clock around its phases."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BATCHES = (8, 16, 64)  # per_device_train_batch_size
GENERATIONS = 8
ROWS = 64


@dataclass
class Clock:
    """Seconds of the steps that were taken, and of the phases of the one that goes on."""

    taken: list[dict[str, float]] = field(default_factory=list)
    generated: float = 0.0
    rolled: float = 0.0  # generation and scoring
    began: float = 0.0
    work: float = 0.0

    def begin(self) -> None:
        self.generated = self.rolled = 0.0
        self.began, self.work = time.perf_counter(), time.process_time()

    def end(self) -> None:
        seconds = time.perf_counter() - self.began
        spent = {"seconds": seconds, "cpu_seconds": time.process_time() - self.work, "generate": self.generated}
        self.taken.append(spent | {"train": seconds - self.rolled, "rest": self.rolled - self.generated})

    def log(self, logs: dict[str, float] | None) -> None:
        if logs and "num_tokens" in logs:
            before = sum(step["tokens"] for step in self.taken[:-1])
            self.taken[-1] |= {"tokens": logs["num_tokens"] - before, "length": logs["completions/mean_length"]}


def timed(clock: Clock) -> tuple[type, Any]:
    """GRPOTrainer with the clock around its phases, and the callback that it needs."""
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    class Trainer(GRPOTrainer):  # type: ignore[misc]
        def _generate(self, *args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            made = super()._generate(*args, **options)
            clock.generated += time.perf_counter() - began
            return made

        def _generate_and_score_completions(self, *args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            made = super()._generate_and_score_completions(*args, **options)
            clock.rolled += time.perf_counter() - began
            return made

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            clock.log(logs)

    return Trainer, Steps()


def replay(stored: Callable[[int], list[int]]) -> Callable[..., dict[str, Any]]:
    """TRL's `rollout_func` that gives stored completions, one after the other."""
    drawn = 0

    def roll(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        nonlocal drawn
        prompt_ids = trainer.processing_class.apply_chat_template(
            prompts, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        completions = [stored(drawn + i) for i in range(len(prompts))]
        drawn += len(prompts)
        return {"prompt_ids": prompt_ids, "completion_ids": completions, "logprobs": None}

    return roll


def run_trl(
    model: str,
    steps: int,
    table: str,
    bf16: bool,
    micro_batch: int,
    continuous: bool,
    checkpointing: bool = False,
    *,
    problems: Callable[[int], list[str]],
    reward: Callable[..., list[float]],
    stored: Callable[[int], list[int]],
    longest: int,
) -> list[dict[str, float]]:
    """Steps of GRPOTrainer."""
    import datasets
    from trl import GRPOConfig

    datasets.disable_progress_bars()
    clock = Clock()
    trainer, callback = timed(clock)
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="grpo_vs_trl_"),
        max_steps=steps,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=ROWS // micro_batch,
        num_generations=GENERATIONS,
        max_completion_length=longest,
        generation_kwargs={"min_new_tokens": longest} if table == "forced" else None,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        beta=0.0,
        loss_type="grpo",
        temperature=1.0,
        bf16=bf16,
        gradient_checkpointing=checkpointing,
        use_transformers_continuous_batching=continuous,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in problems(steps)]
    trainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=datasets.Dataset.from_list(rows),
        callbacks=[callback],
        rollout_func=replay(stored) if table == "heavy" else None,
    ).train()
    return clock.taken
