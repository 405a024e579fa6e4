"""Convert reward models of others to folders of ours: their heads become a single output, exactly.

A softmax over two logits is a sigmoid of their difference, and a difference of two rows of a linear layer is one row.
So a classifier with two labels, and a language model that marks right and wrong by two tokens, both are a network with
a single output, whose logit is that of the original.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmrl.chat import Chat, load_tokenizer
from llmrl.errors import CheckpointError
from llmrl.reward_models.card import CHAT, FILE, Kind
from llmrl.reward_models.encoding import Encoder
from llmrl.reward_models.rows import AnswerRow
from llmrl.train.reward_model.run import describe, hush

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADOPTED: tuple[Kind, ...] = ("outcome", "verifier", "process")
PROBE, CLOSE = 16, 1e-3  # tokens that both networks read, and how far apart their logits may be


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """Meaning of a foreign model's numbers, which is in its documentation and not in its files."""

    kind: Kind
    good: str | None = None  # of a language model: the token for a right step or answer
    bad: str | None = None  # and the token for a wrong one
    template: str = CHAT
    separator: str = "\n"  # behind each step; may be a special token
    max_length: int = 1024
    revision: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ADOPTED:
            raise ValueError(f"kind {self.kind!r}: expected {', '.join(ADOPTED)}; others are trained here")
        if (self.good is None) != (self.bad is None):
            raise ValueError("good and bad: expected both tokens of a language model, or neither for a classifier")
        if self.good is not None and self.kind == "outcome":
            raise ValueError("good and bad give a probability: expected kind verifier or process, not outcome")


def adopt(
    source: str, out: Path, options: Adoption, answers: Sequence[AnswerRow] = (), say: Callable[[str], None] = print
) -> Path:
    """Write a folder that `load` reads, with the scores of `source`.

    Args:
        source: a folder or a hub name: a classifier with one or two labels, the second of which is the good one; or a
            language model, with `good` and `bad`.
        out: a folder that does not exist yet, or is empty.
        answers: to calibrate on; without any `scale: standard` of the reward is refused.
    Raises:
        CheckpointError: it does not load in full, is no such model, or the folder cannot be written.
    """
    if out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out}: holds files already; expected a new folder to write to")
    hush()
    tokenizer = load_tokenizer(source, options.revision)
    old = _whole(source, options)
    weight, bias = _head(old, options, tokenizer, source)
    made = _classifier(old, options.kind, weight, bias)
    _same(old, made, options, tokenizer, source)
    made.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    encoder = Encoder(Chat(tokenizer), options.template, options.separator, options.max_length)
    with contextlib.ExitStack() as failed:
        failed.callback(shutil.rmtree, out, ignore_errors=True)  # a folder without its card would only stand in the way
        try:
            made.save_pretrained(out)
            tokenizer.save_pretrained(out)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{out}: the reward model was not written: {error}") from error
        card = describe(options.kind, encoder, out, answers, backbone=source, revision=options.revision)
        failed.pop_all()
    seen = f"calibrated on {card.calibration.rows} answers" if card.calibration else "not calibrated"
    say(f"{out / FILE}: kind {card.kind}, {seen}")
    return out


def _whole(source: str, options: Adoption) -> PreTrainedModel:
    """Load the model as its authors made it, every weight of it read from the files."""
    import transformers

    names = {"revision": options.revision or "main", "trust_remote_code": options.trust_remote_code}
    try:
        kinds = transformers.AutoConfig.from_pretrained(source, **names).architectures or ["nothing"]
        if options.good is not None:
            maker: Any = transformers.AutoModelForCausalLM
        elif kinds[0].endswith("ForSequenceClassification"):
            maker = transformers.AutoModelForSequenceClassification
        elif kinds[0].endswith("ForTokenClassification"):
            maker = transformers.AutoModelForTokenClassification
        else:
            raise CheckpointError(
                f"{source}: {kinds[0]} is no classifier; for a language model that judges by tokens name both: "
                "--good + --bad -"
            )
        model, loading = maker.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **names)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{source}: does not load: {type(error).__name__}: {reason}") from error
    if lost := sorted(loading["missing_keys"]):
        raise CheckpointError(f"{source}: its files lack {', '.join(lost[:4])}: these weights would be random")
    made: PreTrainedModel = model.eval()
    return made


def _head(old: Any, options: Adoption, tokenizer: PreTrainedTokenizerBase, source: str) -> tuple[Tensor, Tensor | None]:
    """(1, hidden) weight and (1,) bias that give the logit of `good`, or the score."""
    if options.good is not None:
        head, rows = old.get_output_embeddings(), [_token(tokenizer, text) for text in (options.bad, options.good)]
    else:
        head = getattr(old, "score", None)
        rows = list(range(old.config.num_labels))
        if not isinstance(head, torch.nn.Linear) or len(rows) > 2 or (len(rows) == 2 and options.kind == "outcome"):
            raise CheckpointError(
                f"{source}: {type(old).__name__} with {len(rows)} labels; expected a linear layer `score` with one "
                "label, or two for kind verifier or process"
            )

    def of(rows_of: Tensor) -> Tensor:
        picked = rows_of.detach()[rows]
        return picked if len(rows) == 1 else picked[1:] - picked[:1]

    return of(head.weight), None if head.bias is None else of(head.bias)


def _token(tokenizer: Any, text: str | None) -> int:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise CheckpointError(f"{text!r} is {len(ids)} tokens of this tokenizer; expected one, spaces included")
    return int(ids[0])


def _classifier(old: Any, kind: Kind, weight: Tensor, bias: Tensor | None) -> PreTrainedModel:
    """Make a classifier with one label, the body of `old` and this head."""
    from copy import deepcopy

    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    config = deepcopy(old.config)
    config.num_labels = 1
    maker = AutoModelForSequenceClassification if kind == "outcome" else AutoModelForTokenClassification
    made: Any = maker.from_config(config)
    made.base_model.load_state_dict(old.base_model.state_dict())
    with torch.no_grad():
        made.score.weight.copy_(weight)
        if made.score.bias is not None:
            made.score.bias.copy_(torch.zeros(1) if bias is None else bias)
        elif bias is not None and bool(bias):
            raise CheckpointError(f"{type(made).__name__} has no bias for its score, and the model has one")
    adopted: PreTrainedModel = made.eval()
    return adopted


@torch.inference_mode()
def _same(old: Any, made: Any, options: Adoption, tokenizer: Any, source: str) -> None:
    """Check that both networks give the same logit for a row of tokens.

    Raises:
        CheckpointError: they do not.
    """
    ids = torch.arange(PROBE).remainder(len(tokenizer)).unsqueeze(0)
    logit = made.score(made.base_model(input_ids=ids).last_hidden_state)[0, -1, 0]
    outputs = old(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    if outputs.dim() == 2:  # of each token
        outputs = outputs[-1]
    rows = [_token(tokenizer, text) for text in (options.bad, options.good)] if options.good else range(len(outputs))
    values = outputs[list(rows)]
    expected = values[-1] - values[0] if len(values) > 1 else values[0]
    if not torch.isclose(logit, expected, rtol=CLOSE, atol=CLOSE):
        raise CheckpointError(
            f"{source}: the logit would be {logit:.4f} where the model itself says {expected:.4f}: its head is more "
            "than the linear layer that was read; it cannot be adopted"
        )
