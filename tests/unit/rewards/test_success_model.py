"""A language model as the judge of success: its question, its tokens, its probability."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl.chat import Chat, load_tokenizer
from llmrl.data.outcomes import Outcomes
from llmrl.errors import DataError, RewardError
from llmrl.reward_models.outcomes import question
from llmrl.rewards.success_model import SuccessModel
from llmrl.run_folder.writer import Logs
from llmrl.scoring.manager import GradingPool
from llmrl.types import Score
from tests import builders

EPISODE = builders.episode(
    builders.turn("click\n3", reply=[{"role": "user", "content": "page two"}]),
    builders.turn("exit"),
    score=Score(1.0, "correct"),
)


def scored(model: SuccessModel) -> list[Score]:
    with GradingPool(1, 5.0) as pool:
        return asyncio.run(model.as_group_reward(pool).score([EPISODE]))


def test_the_question_has_task_actions_and_final_state() -> None:
    system, user = question(EPISODE)
    assert "YES or NO" in system["content"]
    assert user["content"] == "Task: 2+2?\n\nActions:\n1. click; 3\n2. exit\n\nFinal state:\npage two"
    assert question(builders.episode("4"))[1]["content"].endswith("Final state:\n2+2?")


def test_the_probability_is_that_of_the_models_own_logits(tiny_model_dir: Path) -> None:
    chat = Chat(load_tokenizer(tiny_model_dir))
    ids = torch.tensor([chat.prompt_ids(question(EPISODE))])
    logits = AutoModelForCausalLM.from_pretrained(tiny_model_dir)(ids).logits[0, -1]
    yes, no = (chat.tokenizer.encode(word, add_special_tokens=False)[0] for word in "YN")
    chance = torch.softmax(logits[[yes, no]], 0)[0].item()
    (score,) = scored(SuccessModel(path=str(tiny_model_dir), yes="Y", no="N", device="cpu"))
    assert score.parts["p_yes"] == pytest.approx(chance, abs=1e-6)
    assert (score.value, score.verdict) == ((1.0, "correct") if chance >= 0.5 else (0.0, "wrong"))
    (strict,) = scored(SuccessModel(path=str(tiny_model_dir), yes="Y", no="N", threshold=1.0, device="cpu"))
    assert (strict.value, strict.verdict) == (0.0, "wrong")


def test_words_of_several_tokens_are_refused(tiny_model_dir: Path) -> None:
    with pytest.raises(RewardError, match="'YES' is 3 tokens"):
        scored(SuccessModel(path=str(tiny_model_dir)))


def test_a_question_too_long_has_no_value(tiny_model_dir: Path) -> None:
    (score,) = scored(SuccessModel(path=str(tiny_model_dir), yes="Y", no="N", max_length=9, device="cpu"))
    assert (score.value, score.verdict) == (None, "error")
    assert "max_length" in score.reason


def test_judged_episodes_are_its_training_data(tmp_path: Path) -> None:
    logs = Logs(tmp_path, writes=True, share=1.0)
    wrong = builders.episode("5", score=Score(0.0, "wrong"), episode=1)
    unjudged = builders.episode("6", score=Score(0.5), episode=2)
    logs.rollouts(0, [[EPISODE, wrong, unjudged]], [])
    first, second = Outcomes(str(tmp_path)).problems()
    assert (first.answer, second.answer) == ("YES", "NO")
    assert first.messages == question(EPISODE)
    (tmp_path / "none").mkdir()
    Logs(tmp_path / "none", writes=True, share=1.0).rollouts(0, [[unjudged]], [])
    with pytest.raises(DataError, match="no episode that was judged"):
        list(Outcomes(str(tmp_path / "none")).problems())
