"""Scores by a real small network: each answer's own, whatever it shares a batch with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llmrl.chat import Chat, load_tokenizer
from llmrl.reward_models.card import Card, Kind
from llmrl.reward_models.encoding import Encoder
from llmrl.reward_models.model import RewardModel
from llmrl.reward_models.network import pretrained
from llmrl.reward_models.rows import AnswerRow

ANSWERS = [AnswerRow(prompt="1+1=", steps=steps) for steps in (["2"], ["one and one", "are", "2"], ["3 or", "so"])]


def model(folder: Path, kind: Kind, tokens_per_batch: int) -> RewardModel:
    card = Card(kind=kind, link="identity" if kind == "outcome" else "sigmoid", template_sha256="t", backbone="b",
                backbone_sha256="b", weights_sha256="w")  # fmt: skip
    torch.manual_seed(0)
    network: Any = pretrained(kind, folder, dtype=torch.float32).eval()
    return RewardModel(card, Encoder(Chat(load_tokenizer(folder))), network, tokens_per_batch)


@pytest.mark.parametrize(("kind", "ask"), [("outcome", "sequences"), ("process", "steps"), ("token", "tokens")])
def test_an_answer_s_scores_are_those_that_it_has_alone(tiny_model_dir: Path, kind: Kind, ask: str) -> None:
    for tokens_per_batch in (8192, 60):  # one batch of padded answers, and several
        together = model(tiny_model_dir, kind, tokens_per_batch)
        for answer, scored in zip(ANSWERS, getattr(together, ask)(ANSWERS), strict=True):
            (alone,) = getattr(together, ask)([answer])
            assert scored.logits == pytest.approx(alone.logits, abs=1e-5)
            assert (scored.tokens, scored.cut) == (alone.tokens, 0)


def test_an_outcome_is_read_at_the_last_token(tiny_model_dir: Path) -> None:
    made = model(tiny_model_dir, "outcome", 8192)
    for answer, scored in zip(ANSWERS, made.sequences(ANSWERS), strict=True):
        ids = torch.tensor([made.encoder(answer).token_ids])
        with torch.no_grad():
            assert scored.logits == pytest.approx([float(made.network(input_ids=ids).logits[0, 0])], abs=1e-5)
