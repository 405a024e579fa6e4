"""Scores by a trained reward model, with the same interface for every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import exp, isfinite
from pathlib import Path
from typing import Any

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import CheckpointError
from llmrl.recipe.ranges import Count
from llmrl.reward_models.card import Card, Kind, check_template, read
from llmrl.reward_models.encoding import Encoded, Encoder
from llmrl.reward_models.rows import AnswerRow

TOKENS = 8192  # of a batch, padding included


@dataclass(frozen=True, slots=True)
class Scored:
    """Raw numbers of one answer, before the card's link."""

    logits: list[float | None]  # one of the sequence, of each step, or of each token; None where it was cut off
    tokens: int  # that the model read
    cut: int  # and that `max_length` took from the beginning
    ends: Sequence[int] = ()  # of tokens: where each ends in the text of the response, in characters

    @property
    def truncated(self) -> bool:
        """Tell whether the answer was cut before the model read it."""
        return self.cut > 0


@dataclass
class RewardModel:
    """A reward model that is loaded and ready to score; made by `load`.

    `scored` and `truncated` count the answers so far, and those of them that were too long to be read whole.
    """

    card: Card
    encoder: Encoder
    network: Any = field(repr=False)
    tokens_per_batch: Count = TOKENS
    scored: int = 0
    truncated: int = 0

    def sequences(self, answers: Sequence[AnswerRow]) -> list[Scored]:
        """Score answers by one logit each: at the last token; of a token model the mean over the answer.

        Raises:
            CheckpointError: a process model, which scores steps.
        """
        if self.card.kind == "process":
            raise CheckpointError("a process model scores steps; ask for `steps`, and aggregate them")
        if self.card.kind == "token":
            return self._scored(answers, lambda row, logits: [_mean(_at(row.response, logits))])
        return self._scored(answers, lambda row, logits: [logits[len(row.token_ids) - 1]])

    def steps(self, answers: Sequence[AnswerRow]) -> list[Scored]:
        """Score each step of each answer by a logit, at the last token of the separator behind it.

        Raises:
            CheckpointError: not a process model.
        """
        if self.card.kind != "process":
            raise CheckpointError(f"a reward model of kind {self.card.kind!r} has no scores of steps; expected process")
        return self._scored(answers, lambda row, logits: _at(row.step_ends, logits))

    def tokens(self, answers: Sequence[AnswerRow]) -> list[Scored]:
        """Score each token of each response by a logit, the end of sequence included; None for tokens cut off.

        Raises:
            CheckpointError: an outcome model, whose numbers before the last token are meaningless; a process model.
        """
        if self.card.kind != "token" and not (self.card.kind == "verifier" and self.card.positions == "all_tokens"):
            raise CheckpointError(
                f"a reward model of kind {self.card.kind!r} has no scores of tokens; expected token, or a verifier "
                "with positions all_tokens"
            )
        scored = self._scored(answers, lambda row, logits: _at(row.response, logits))
        return [replace(row, ends=self.encoder.ends(answer)) for row, answer in zip(scored, answers, strict=True)]

    def encoded(self, answers: Sequence[AnswerRow]) -> list[Encoded]:
        """Encode answers as the model's input."""
        return [self.encoder(answer) for answer in answers]

    def _scored(
        self, answers: Sequence[AnswerRow], pick: Callable[[Encoded, list[float]], list[float | None]]
    ) -> list[Scored]:
        import torch

        from llmrl.reward_models.network import by_tokens, padded, token_logits

        rows = self.encoded(answers)
        scored: list[Scored | None] = [None] * len(rows)
        for batch in by_tokens(rows, self.tokens_per_batch):
            token_ids, mask = padded([rows[index] for index in batch])
            device = self.network.device
            with torch.inference_mode():
                logits = token_logits(self.network, token_ids.to(device), mask.to(device)).cpu().tolist()
            for index, numbers in zip(batch, logits, strict=True):
                row = rows[index]
                scored[index] = Scored(pick(row, numbers), len(row.token_ids), row.cut)
        self.scored += len(rows)
        self.truncated += sum(row.cut > 0 for row in rows)
        return [answer for answer in scored if answer is not None]


def load(
    folder: str | Path,
    kind: Kind | tuple[Kind, ...] | None = None,
    *,
    device: str | None = None,
    dtype: str = "float32",
    tokens_per_batch: int = TOKENS,
) -> RewardModel:
    """Load a reward model from its folder.

    Args:
        folder: as `llmrl reward-model` writes it.
        kind: the expected kind; None takes any.
        device: such as `cuda:1`; None: the first GPU, or the CPU where there is none.
        dtype: of the network below the head; the head is float32.
        tokens_per_batch: how many tokens are scored at a time.
    Raises:
        CheckpointError: it is missing, corrupted, of another kind, or its template is not that of its training.
    """
    import torch

    from llmrl.reward_models.network import pretrained

    card = read(folder, kind)
    tokenizer = load_tokenizer(folder)
    check_template(card, tokenizer, folder)
    network: Any = pretrained(card.kind, folder, dtype=getattr(torch, dtype))
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval().requires_grad_(False)
    network.score.float()
    encoder = Encoder(Chat(tokenizer), card.template, card.separator, card.max_length)
    return RewardModel(card, encoder, network, tokens_per_batch)


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    return 1.0 / (1.0 + exp(-logit)) if logit >= 0 else exp(logit) / (1.0 + exp(logit))


def finite(logits: Sequence[float | None]) -> bool:
    """Tell whether every logit is there and finite."""
    return all(logit is not None and isfinite(logit) for logit in logits)


def _at(places: Sequence[int], logits: Sequence[float]) -> list[float | None]:
    return [logits[place] if place >= 0 else None for place in places]


def _mean(logits: Sequence[float | None]) -> float | None:
    known = [logit for logit in logits if logit is not None]
    return sum(known) / len(known) if known else None
