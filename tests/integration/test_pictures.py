"""Policies that see: sampled and trained log-probabilities agree, pictures matter, and a run learns from them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import llmrl
from llmrl.engines.hf import Hf
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.errors import CheckpointError, DataError, EngineError, RecipeError
from llmrl.planning.run import plan
from llmrl.recipe import parse
from llmrl.samples import Sample
from llmrl.train.dry_run import require_possible
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator
from llmrl.types import Observation, Problem, Sampling
from llmrl.vision import sight, tiny
from llmrl.vision.engines import seeing
from tests.seeing import painted, pictured_rows, write_idefics, write_qwen

MOST_GAP = 2e-6  # nats, between engine and trainer: kernels alone


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("seeing"))


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return pictured_rows(tmp_path)


def recipe(policy: Path, folder: Path, **sections: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "model": {"policy": str(policy)},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {
            "prompts_per_step": 4,
            "num_generations": 4,
            "max_completion_length": 12,
            "max_prompt_length": 64,
        },
        "train": {"max_steps": 3, "learning_rate": 1e-3, "output_dir": str(folder), "run_name": "seen"},
    }
    return {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}


def by_length(completions: list[str], **_: Any) -> list[float]:
    return [float(len(text) % 5) for text in completions]


def gaps(run: llmrl.TrainedRun) -> Sequence[float]:
    found: Sequence[float] = run.metrics["sampling/sampling_logp_difference/mean"]
    return found


@pytest.mark.parametrize("algorithm", [{"name": "grpo"}, {"name": "grpo", "beta": 0.1, "num_iterations": 2}])
def test_sampled_and_trained_logprobs_agree(
    model: Path, rows: list[dict[str, Any]], tmp_path: Path, algorithm: dict[str, Any]
) -> None:
    """Four steps, in which random weights sample picture tokens as words, too; beside prompts without a picture."""
    run = llmrl.train(recipe(model, tmp_path, algorithm=algorithm), reward=by_length, data=rows)
    assert len(gaps(run)) == 3
    assert max(gaps(run)) < MOST_GAP


@pytest.mark.parametrize(("write", "tokens"), [(write_qwen, 9), (write_idefics, 19)])
def test_other_families_agree(
    write: Callable[[Path], Any],
    tokens: int,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Positions by rows and columns of a picture; tokens of other kinds around it."""
    seen = sight.Sight(write(tmp_path / "model"))
    monkeypatch.setattr(sight, "load", lambda _: seen)
    assert [len(each) for each in seen.spelled(rows[1]["images"])] == [tokens] * 2
    sections = {"rollout": {"max_prompt_length": 200}}
    run = llmrl.train(recipe(tmp_path / "model", tmp_path, **sections), reward=by_length, data=rows)
    assert max(gaps(run)) < MOST_GAP


def test_lora_gradient_checkpointing_and_own_reference(model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "model": {"use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"]},
        "algorithm": {"name": "grpo", "beta": 0.1},
        "train": {"gradient_checkpointing": True},
    }
    run = llmrl.train(recipe(model, tmp_path, **sections), reward=by_length, data=rows)
    assert max(gaps(run)) < MOST_GAP


def test_another_picture_gives_other_logprobs(model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """Greedy answers differ between red and blue, and not between equal pictures."""
    red, blue = rows[0]["images"][0], rows[2]["images"][0]
    asked = [
        [{"role": "user", "content": [{"type": "image", "image": one}, {"type": "text", "text": "what?"}]}]
        for one in (red, blue, red)
    ]
    answers = llmrl.generate(str(model), asked, max_tokens=12, temperature=0.0, engine="hf")
    texts = [answer.text for answer in answers]
    assert texts[0] == texts[2] != texts[1]


@dataclass(frozen=True)
class Album:
    """Shows a picture in parts, then another; the run's policy sees both."""

    pictures: tuple[str, str]

    def make(self, problem: Problem) -> Album:
        return self

    async def reset(self) -> Observation:
        return Observation(messages=[self._shown(0)])

    async def step(self, message: Any) -> Observation:
        more = not getattr(self, "_seen", False)
        object.__setattr__(self, "_seen", True)
        return Observation(messages=[self._shown(1)], reward=1.0) if more else Observation(reward=0.5, done=True)

    async def close(self) -> None: ...

    def _shown(self, number: int) -> dict[str, Any]:
        picture = {"type": "image", "image": self.pictures[number]}
        return {"role": "user", "content": [{"type": "text", "text": f"number {number}: "}, picture]}


@dataclass(frozen=True)
class Albums:
    pictures: tuple[str, str]

    def make(self, problem: Problem) -> Album:
        return Album(self.pictures)


def test_an_environment_shows_pictures_turn_by_turn(model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    red, blue = rows[0]["images"][0], rows[2]["images"][0]
    sections = {"rollout": {"max_turns": 3, "prompts_per_step": 1, "overlong_turns": "answer", "max_reply_length": 64}}
    run = llmrl.train(
        recipe(model, tmp_path, **sections),
        reward=by_length,
        env=Albums((red, blue)),
        data=[{"prompt": "look"}],
    )
    assert max(gaps(run)) < MOST_GAP
    lines = [json.loads(line) for line in (run.folder / "rollouts.jsonl").read_text().splitlines()]
    turns = lines[0]["turns"]
    assert [turn["images"] for turn in turns] == [[red], [red, blue]]
    assert "observed_ids" in turns[1], "the second prompt extends the first"


def test_a_recorded_step_is_repeated_to_the_bit(model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    from llmrl.replaying.run import replay

    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe(
        model,
        tmp_path,
        data={"name": "jsonl", "path": str(data)},
        reward={"name": "tests.integration.test_pictures:by_length"},
        train={"save_steps": 1},
    )
    found = replay(llmrl.train(made).folder, 1, ())
    assert found.same
    assert found.weights is not None
    assert max(found.weights.values()) == 0.0


def test_stored_answers_teach_what_is_seen(model: Path, tmp_path: Path) -> None:
    """Two pictures, one question: only who sees can answer both; the loss of a blind policy stays at ln 2 a letter."""
    painted(tmp_path, "red", "blue")
    stored = tmp_path / "stored.jsonl"
    stored.write_text(
        "".join(
            json.dumps({"prompt": "which?", "completion": name[0], "images": [f"{name}.png"]}) + "\n"
            for name in ("red", "blue") * 4
        )
    )
    given = recipe(
        model,
        tmp_path,
        algorithm={"name": "bc"},
        source={"name": "offline", "path": str(stored)},
        rollout={"prompts_per_step": 8},
        train={"max_steps": 40, "learning_rate": 3e-3},
    )
    del given["engine"]
    losses = llmrl.train(given).metrics["loss"]
    assert losses[-1] < 0.1 < 1.0 < losses[0]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"algorithm": {"name": "ppo"}}, "the critic of algorithm ppo reads texts alone"),
        ({"engine": {"name": "scripted", "replies": ["a"]}}, "engine scripted reads texts alone"),
        (
            {
                "algorithm": {"name": "bc"},
                "rollout": {"search": {"name": "best_of_n", "n": 2}, "judge": {"name": "length"}},
            },
            "a search of answers .* reads texts alone",
        ),
        ({"model": {"model_revision": "v2"}}, "model.model_revision is v2; download that revision"),
    ],
)
def test_what_cannot_see_is_refused_before_the_run(
    model: Path, rows: list[dict[str, Any]], tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe(model, tmp_path, **sections, data={"name": "jsonl", "path": str(data)}, reward={"name": "length"})
    for begin in (llmrl.train, lambda each: require_possible(parse(each))):
        with pytest.raises(RecipeError, match=said):
            begin(made)
    assert not (tmp_path / "seen" / "rollouts.jsonl").exists()


def test_what_can_see_passes_the_dry_run_and_the_plan(model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = parse(recipe(model, tmp_path, data={"name": "jsonl", "path": str(data)}, reward={"name": "length"}))
    require_possible(made)
    lengths = plan(made).lengths
    assert lengths is not None
    assert lengths.prompt_max == 1 + len("from ") + 4 + len(" to ") + 4 + 2, "roles, end, and four tokens a picture"


def test_a_model_beside_the_engine_sees_nothing(model: Path, rows: list[dict[str, Any]]) -> None:
    beside = Hf(return_kept_ids=True, mask_update_steps=2)
    engine = beside.start(str(model), dtype="float32", seed=0, max_model_len=64, stop_token_ids=[])
    try:
        with pytest.raises(EngineError, match="mask policy or critic beside it reads texts alone"):
            asyncio.run(engine.generate([65, 66], Sampling(max_tokens=2), rows[0]["images"]))
    finally:
        engine.close()


def test_sharded_weights_never_meet_pictures(model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """Ranks whose rows have none would wait for the encoder's weights for ever."""
    quiet = {"report_to": "none"}
    made = parse(recipe(model, tmp_path, data={"name": "gsm8k"}, reward={"name": "numeric"}, train=quiet))
    learners = Learners(made, accelerator(made.train), frozenset())
    tokens = {"token_ids": [65, 66, 67], "turn_ids": [-1, 0, 0]}
    seen = Sample(group="g", episode=0, reward=0.0, columns=tokens, images=tuple(rows[0]["images"]))
    learners.policy.sharded = True
    with pytest.raises(RecipeError, match="pictures under ZeRO-3 are not supported"):
        learners.policy.logprobs([seen])


def test_a_critic_never_reads_pictures_as_words(model: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """The environment shows them, of which nobody knows before the run."""
    red, blue = rows[0]["images"][0], rows[2]["images"][0]
    made = recipe(model, tmp_path, algorithm={"name": "ppo"})
    with pytest.raises(RecipeError, match="critics read texts alone, and the rows have pictures"):
        llmrl.train(made, reward=by_length, env=Albums((red, blue)), data=[{"prompt": "look"}])
    with pytest.raises(EngineError, match=r"engine ScriptedEngine: it reads no pictures; expected engine\.name"):
        seeing(ScriptedEngine(tokenizer=None, options=Scripted()))


def test_a_model_of_texts_is_refused_before_the_run(
    model: Path, tiny_model_dir: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="reads no pictures"):
        llmrl.train(recipe(tiny_model_dir, tmp_path), reward=by_length, data=rows)
    missing = [{"prompt": "what?", "images": ["nowhere.png"]}]
    with pytest.raises(DataError, match=r"nowhere.png: No such file"):
        llmrl.train(recipe(model, tmp_path), reward=by_length, data=missing)
