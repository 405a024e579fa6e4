"""Models with several heads on a real small model: their numbers, Polyak copies, frozen trunks, resume and export."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from llmrl.batch import Batch, collate
from llmrl.errors import CheckpointError
from llmrl.protocols import Forward, Loss, ModelSpec, Update
from llmrl.recipe import Recipe, parse
from llmrl.samples import Sample
from llmrl.train.learners import Learners
from llmrl.train.loop import train
from llmrl.train.parallel import accelerator
from llmrl.train.run import Run

ROWS = [
    {"prompt": f"{a}+{b}=", "completion": text, "reward": reward}
    for a in range(5)
    for b in range(5)
    for text, reward in ((str(a + b), 1.0), ("77", 0.0))
]
ILQL = {"name": "ilql", "head_width": 1, "target_tau": 0.25, "policy": "awac"}
Built = Callable[..., Learners]


def recipe(model: Path, out: Path, algorithm: Mapping[str, Any] = ILQL, **sections: Any) -> Recipe:
    rows = out / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    options = {"max_steps": 4, "save_steps": 2, "learning_rate": 1e-3, "output_dir": str(out), "report_to": "none"}
    return parse(
        {
            "model": {"policy": str(model)},
            "source": {"name": "offline", "path": str(rows)},
            "rollout": {"prompts_per_step": 8, "max_prompt_length": 32, "max_completion_length": 8},
            "algorithm": dict(algorithm),
            "critic": {"learning_rate": 1e-3} | sections.pop("critic", {}),
            "train": options | sections.pop("train", {}),
        }
    )


@pytest.fixture
def build(tiny_model_dir: Path, tmp_path: Path) -> Built:
    def made(**sections: Any) -> Learners:
        own = recipe(tiny_model_dir, tmp_path, **sections)
        torch.manual_seed(0)
        return Learners(own, accelerator(own.train), own.algorithm.needs())

    return made


def step(count: int = 5) -> list[Sample]:
    """Answers of unlike lengths to unlike prompts, with an observation between two turns."""
    rows = []
    for i in range(count):
        turns = [-1] * (2 + i) + [0] * (1 + i) + [-1] + [1] * (6 - i)
        ids = [10 + (7 * t + 13 * i) % 200 for t in range(len(turns))]
        rows.append(
            Sample(
                group=str(i),
                episode=0,
                reward=i / 4,
                turn_rewards=[0.0, 0.0],
                columns={"token_ids": ids, "turn_ids": turns, "sampled_logprobs": [0.0] * len(ids)},
            )
        )
    return rows


def states_of(learners: Learners, row: Sample) -> Tensor:
    with torch.no_grad():
        trunk = learners["critic"].net.model
        states: Tensor = trunk(input_ids=torch.tensor([row.token_ids.tolist()])).last_hidden_state[0]
    return states


def test_a_head_of_the_vocabulary_speaks_of_the_token_in_the_state_before_it(build: Built) -> None:
    learners = build(critic={"zero_init": False})
    critic, (row,) = learners["critic"], step(1)
    new = critic.forward(collate([row], pack=False), chunks=2)
    with torch.no_grad():
        table = critic.net.heads["q1"].body(states_of(learners, row))
    q1, spreads = new.heads["q1"].tolist(), new.head_logprobs["q1"].tolist()
    for t in row.action_mask.nonzero()[0].tolist():
        token = int(row.token_ids[t])
        assert q1[0][t] == pytest.approx(float(table[t - 1, token]), abs=1e-5)
        spread = torch.log_softmax(table[t - 1], -1)[token]
        assert spreads[0][t] == pytest.approx(float(spread), abs=1e-5)
    least = torch.minimum(new.target_heads["q1"], new.target_heads["q2"])
    assert torch.equal(new.action_values, least)
    assert torch.equal(new.values, new.heads["v"])
    assert new.heads["q1"].requires_grad and not new.action_values.requires_grad  # noqa: PT018


def test_copies_take_their_share_after_every_optimiser_step(build: Built) -> None:
    learners = build(algorithm=ILQL | {"minibatches": 2}, critic={"zero_init": False})
    critic: Any = learners["critic"]
    algorithm: Any = recipe_algorithm(minibatches=2)
    rows = algorithm.credit(learners.annotate(step(), algorithm.needs()))
    update = algorithm.updates(0)[0]
    expected = {name: weight.clone() for name, weight in critic.targets.copy.state_dict().items()}
    steps = 0
    for _ in learners.fit(rows, update, seed=0, rate=1e-2):
        steps += 1
        for name, weight in critic.net.heads.state_dict().items():
            expected[name] = 0.75 * expected[name] + 0.25 * weight
        for name, weight in critic.targets.copy.state_dict().items():
            assert torch.allclose(weight, expected[name], atol=1e-7), name
            assert not torch.equal(weight, critic.net.heads.state_dict()[name])
    assert steps == 2


def test_a_copy_of_the_whole_model_reads_tokens_and_follows(build: Built) -> None:
    """Its numbers are those of a network with the copy's weights, trunk and all: states of the old trunk."""
    options = {"target": "model", "minibatches": 2}
    learners = build(algorithm=ILQL | options, critic={"zero_init": False})
    critic: Any = learners["critic"]
    algorithm: Any = recipe_algorithm(**options)
    start = {name: weight.clone() for name, weight in critic.net.state_dict().items()}
    assert equal(critic.targets.copy.state_dict(), start)
    rows = algorithm.credit(learners.annotate(step(), algorithm.needs()))
    between = [start]
    for _ in learners.fit(rows, algorithm.updates(0)[0], seed=0, rate=1e-2):
        between.append({name: weight.clone() for name, weight in critic.net.state_dict().items()})
    copied = critic.targets.copy.state_dict()
    for name, first in start.items():
        expected = 0.75 * (0.75 * first + 0.25 * between[1][name]) + 0.25 * between[2][name]
        assert torch.allclose(copied[name], expected, atol=1e-7), name
    batch = collate(step(1), pack=False)
    found = critic.forward(batch, 1)
    critic.net.load_state_dict(copied)
    wanted = critic.forward(batch, 1)
    for name in ("q1", "q2", "v"):
        assert torch.allclose(found.target_heads[name], wanted.heads[name], atol=1e-6)
        assert not found.target_heads[name].requires_grad
    assert torch.allclose(found.next_target_heads["v"], wanted.next_heads["v"], atol=1e-6)
    assert not torch.allclose(found.heads["q1"], wanted.heads["q1"], atol=1e-4)


def recipe_algorithm(**options: Any) -> Any:
    from llmrl.plugins import build as made

    return made("algorithm", ILQL | options)


@pytest.mark.parametrize("train", [{"tokens_per_device": 20}, {"packing": False, "tokens_per_device": 30}])
@pytest.mark.parametrize("loss", ["expectile", "gumbel"])
def test_micro_batches_cannot_matter(build: Built, train: dict[str, Any], loss: str) -> None:
    def gradient(**train: Any) -> list[Tensor]:
        learners = build(critic={"zero_init": False}, train={"max_grad_norm": float("inf")} | train)
        algorithm = recipe_algorithm(value_loss=loss)
        rows = algorithm.credit(learners.annotate(step(), algorithm.needs()))
        caught: list[Tensor] = []
        critic: Any = learners["critic"]
        critic.optimizer.optimizer.register_step_pre_hook(
            lambda *_: caught.extend(p.grad.clone() for p in critic.net.parameters() if p.grad is not None)
        )
        list(learners.fit(rows, algorithm.updates(0)[0], seed=0, rate=0.0))
        return caught

    whole, split = gradient(), gradient(**train)
    gap = torch.stack([(a - b).norm() for a, b in zip(whole, split, strict=True)]).norm()
    size = torch.stack([a.norm() for a in whole]).norm()
    assert size > 1e-3, "nothing to compare"
    assert gap / size < 1e-5


def test_a_frozen_trunk_stands_still_and_its_heads_learn(build: Built) -> None:
    learners = build(algorithm=ILQL | {"trunk": "reference"})
    critic: Any = learners["critic"]
    algorithm = recipe_algorithm(trunk="reference")
    before = {name: weight.clone() for name, weight in critic.net.state_dict().items()}
    rows = algorithm.credit(learners.annotate(step(), algorithm.needs()))
    losses = [
        fit.metrics["loss"]
        for _ in range(8)
        for _, fit in learners.fit(rows, algorithm.updates(0)[0], seed=0, rate=3e-3)
    ]
    assert losses[-1] < losses[0]
    moved = {
        name.partition(".")[0]
        for name, weight in critic.net.state_dict().items()
        if not torch.equal(weight, before[name])
    }
    assert moved == {"heads"}
    assert not any(weight.requires_grad for weight in critic.net.model.parameters())


def test_the_value_of_a_prompt_knows_neither_padding_nor_neighbours_nor_the_answer(build: Built) -> None:
    learners = build(
        algorithm={"name": "a_lol", "baseline": "attention", "max_reward": 2.0}, critic={"zero_init": False}
    )
    critic: Any = learners["critic"]
    with torch.no_grad():
        critic.net.heads["value"].last.weight.mul_(5)
    rows = step()
    alone = [critic.forward(collate([row], pack=False), 1).values.detach() for row in rows]
    together, packed = (critic.forward(collate(rows, pack=pack), 1).values.detach() for pack in (False, True))
    flat, start = packed.flatten(), 0
    for i, row in enumerate(rows):
        value, length = float(alone[i][0, 0]), len(row.token_ids)
        assert 0 < value < 2
        assert torch.allclose(alone[i], torch.tensor(value))
        assert torch.allclose(together[i, :length], torch.tensor(value), atol=1e-5)
        start += length
    other = replace(
        rows[0], columns={**rows[0].columns, "token_ids": [*rows[0].token_ids[:2], *[9] * (len(rows[0].token_ids) - 2)]}
    )
    assert torch.allclose(critic.forward(collate([other], pack=False), 1).values, alone[0][:, :1])
    assert len(flat) == start
    assert len({round(float(value[0, 0]), 4) for value in alone}) == len(rows), "prompts differ"


def weights(folder: Path) -> dict[str, Tensor]:
    found = {f"policy/{name}": weight for name, weight in load_file(folder / "model.safetensors").items()}
    for file in ("model", "heads"):
        own = load_file(folder / "critic" / f"{file}.safetensors")
        found |= {f"{file}/{name}": weight for name, weight in own.items()}
    return found


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("target", ["heads", "model"])
def test_a_resumed_run_equals_one_that_ran_through(tiny_model_dir: Path, tmp_path: Path, target: str) -> None:
    """Copies are in the checkpoint: with others the targets, and so the heads, would differ."""
    made = recipe(tiny_model_dir, tmp_path, ILQL | {"target": target})
    with Run(made, name="whole") as run:
        train(run)
    begun = replace(made, train=replace(made.train, run_name="parts"))
    with Run(begun, name="parts") as run:
        run.recorder.on_step = None  # type: ignore[attr-defined]
        train(run)
    (tmp_path / "parts" / "checkpoints" / "step-000004").rename(tmp_path / "gone")
    with Run(begun, name="parts", resume=True) as run:
        assert run.first_step == 2
        train(run)
    assert equal(weights(tmp_path / "whole" / "final"), weights(tmp_path / "parts" / "final"))


def test_what_was_trained_begins_the_next_run(tiny_model_dir: Path, tmp_path: Path) -> None:
    with Run(recipe(tiny_model_dir, tmp_path), name="first") as run:
        train(run)
    final = tmp_path / "first" / "final"
    known = weights(final)
    start = load_file(tiny_model_dir / "model.safetensors")
    assert any(not torch.equal(known[f"policy/{name}"], start[name]) for name in start)
    following = recipe(
        final,
        tmp_path,
        critic={"model": str(final / "critic"), "learning_rate": 0.0},
        train={"max_steps": 1, "learning_rate": 0.0},
    )
    with Run(following, name="second") as run:
        critic: Any = run.learners["critic"]
        assert equal(critic.targets.copy.state_dict(), critic.net.heads.state_dict())
        train(run)
    assert equal(known, weights(tmp_path / "second" / "final")), "at learning rate 0"
    with pytest.raises(CheckpointError, match=r"its head q1 was .*'width': 1.* asks for .*'width': 2"):
        Run(recipe(final, tmp_path, ILQL | {"head_width": 2}, critic={"model": str(final / "critic")}), name="third")
    with Run(
        recipe(final, tmp_path, {"name": "a_lol", "baseline": "critic"}, critic={"model": str(final / "critic")}),
        name="fourth",
    ) as run:
        assert list(run.learners["critic"].net.heads) == ["value"], "a head that is not there begins anew"


def test_q_and_v_learn_which_answers_are_right(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Right answers end with a reward of 1, a wrong 77 with 0: Q of the last token tells them apart."""
    made = recipe(
        tiny_model_dir, tmp_path, ILQL | {"gamma": 1.0, "cql_weight": 0.0}, train={"max_steps": 60, "save_steps": 0}
    )
    with Run(made, name="run") as run:
        train(run)
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["critic/loss/q"] < 0.25 * lines[0]["critic/loss/q"]
    assert 0 < lines[-1]["critic/gap/positive"] < 1


@pytest.mark.parametrize(("dtype", "checkpointing"), [("bfloat16", False), ("float32", True)])
def test_heads_of_the_vocabulary_and_copies_are_float32(
    tiny_model_dir: Path, tmp_path: Path, dtype: Any, checkpointing: bool
) -> None:
    own = recipe(tiny_model_dir, tmp_path, train={"gradient_checkpointing": checkpointing})
    own = replace(own, model=replace(own.model, dtype=dtype))
    learners = Learners(own, accelerator(own.train), own.algorithm.needs())
    critic: Any = learners["critic"]
    kinds = {weight.dtype for weight in critic.net.heads["q1"].parameters()}
    assert kinds | {weight.dtype for weight in critic.targets.copy.state_dict().values()} == {torch.float32}
    algorithm = recipe_algorithm()
    rows = algorithm.credit(learners.annotate(step(), algorithm.needs()))
    ((_, fit),) = learners.fit(rows, algorithm.updates(0)[0], seed=0, rate=1e-3)
    assert fit.applied
    assert fit.metrics["loss"] > 0


@dataclass(frozen=True)
class Asks:
    """Reads a critic that lies in a folder and never learns, and trains a second one."""

    folder: str

    def models(self) -> Mapping[str, ModelSpec]:
        heads: dict[str, dict[str, Any]] = {"q1": {"name": "vocabulary", "width": 1}, "v": {"name": "scalar"}}
        return {"critic": ModelSpec(trunk=self.folder, trains=False, heads=heads), "other": ModelSpec()}

    def needs(self) -> frozenset[str]:
        return frozenset({"values", "action_values"})

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        return [row.assign(weights=1.0, returns=row.values) for row in samples]

    def updates(self, step: int) -> Sequence[Update]:
        return [Update("other", self.loss, rows=lambda row: row.episode == 0), Update("policy", self.imitate)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        return Loss(new.value_loss(batch.returns))

    def imitate(self, new: Forward, batch: Batch) -> Loss:
        return Loss(-new.logprobs)


def test_a_model_from_a_folder_is_read_and_another_learns_from_it(
    tiny_model_dir: Path, critic_dir: Path, tmp_path: Path
) -> None:
    own: Any = replace(recipe(tiny_model_dir, tmp_path), algorithm=Asks(str(critic_dir)))
    learners = Learners(own, accelerator(own.train), own.algorithm.needs())
    assert list(learners.exported) == ["other"]
    rows = learners.annotate(step(), own.algorithm.needs())
    heads = load_file(critic_dir / "heads.safetensors")
    wanted = states_of(learners, rows[0]) @ heads["v.body.weight"].T
    acts = rows[0].action_mask.nonzero()[0]
    assert rows[0].values[acts] == pytest.approx(wanted[acts - 1, 0].numpy(), abs=1e-5)
    assert rows[0].action_values.any()
    before = {name: weight.clone() for name, weight in learners["critic"].net.state_dict().items()}
    credited = own.algorithm.credit([*rows[:3], *(replace(row, episode=1) for row in rows[3:])])
    (update, _) = own.algorithm.updates(0)
    losses = []
    for _ in range(12):
        ((part, fit),) = learners.fit(credited, update, seed=0, rate=3e-3)
        assert len(part) == 3, "only the rows that the update asks for"
        losses.append(fit.metrics["loss"])
    assert losses[-1] < 0.5 * losses[0]
    assert equal(before, learners["critic"].net.state_dict())
