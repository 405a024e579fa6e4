"""A reward model on disk: a Hugging Face folder with `reward_model.json`, which defines its numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from llmrl.datafiles import json_text
from llmrl.errors import CheckpointError, RecipeError
from llmrl.plugins import construct

FILE = "reward_model.json"
CHAT = "chat"
FORMAT = 1

Kind = Literal["outcome", "verifier", "process", "token"]
Link = Literal["identity", "sigmoid"]
Positions = Literal["last_token", "all_tokens"]
LINKS: dict[Kind, Link] = {"outcome": "identity", "verifier": "sigmoid", "process": "sigmoid", "token": "sigmoid"}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Raw scores of a fixed set of answers, which make the scores of several models comparable."""

    mean: float
    std: float
    low: float
    high: float
    rows: int  # how many answers


@dataclass(frozen=True, kw_only=True)
class Card:
    """Content of `reward_model.json`.

    `outcome`: a number for an answer, learned from pairs; only differences mean something. `verifier`: the logit that
    an answer is right, at its last token. `process`: the logit that a step is right, at the last token of the
    separator behind it. `token`: numbers whose mean over an answer is the logit that it is right.
    """

    kind: Kind
    link: Link  # identity: the raw score is all there is; sigmoid: it is the logit of a probability
    template: str = (
        CHAT  # the tokenizer's own chat template, or Jinja2 with `prompt`, `response` and variables of yours
    )
    template_sha256: str
    separator: str = "\n"  # behind each step, tokenised by itself
    positions: Positions = "last_token"  # at which a verifier learned
    labels: str = "positive is good"
    max_length: int = 1024  # tokens; longer input is cut at its beginning, and counted
    calibration: Calibration | None = None
    backbone: str  # the model that it was trained from
    backbone_sha256: str  # of those weights, or the hub's revision
    weights_sha256: str  # of the weights in this folder
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format}: this version of llmrl reads {FORMAT}")
        if self.link != LINKS[self.kind]:
            raise ValueError(f"link {self.link!r} for a {self.kind} model; expected {LINKS[self.kind]!r}")
        if self.max_length < 1 or not self.separator:
            raise ValueError("expected max_length at least 1 and a separator that is not empty")


def write(folder: Path, card: Card) -> None:
    """Write the card into a folder.

    Raises:
        CheckpointError: the disk is full or not writable.
    """
    try:
        (folder / FILE).write_text(json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{folder / FILE}: not written: {error.strerror}") from error


def read(folder: str | Path, kind: Kind | tuple[Kind, ...] | None = None, *, weights: bool = True) -> Card:
    """Read the card of a folder, and check that its weights are those that it describes.

    Args:
        kind: the expected kind; None takes any.
        weights: whether the weights are read and compared with the card: a second for each gigabyte or two.
    Raises:
        CheckpointError: no such folder, no card, one that cannot be read, another kind, or other weights.
    """
    folder = Path(folder)
    path = folder / FILE
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; expected a reward model, as `llmrl reward-model` writes it")
    if not path.is_file():
        inside = ", ".join(sorted(file.name for file in folder.iterdir())[:6]) or "nothing"
        raise CheckpointError(
            f"{folder}: no {FILE}; found {inside}. Expected a folder that `llmrl reward-model` has written; a language "
            "model is trained into one, see docs/reward_models.md"
        )
    card = _parsed(path)
    wanted = (kind,) if isinstance(kind, str) else kind
    if wanted and card.kind not in wanted:
        raise CheckpointError(f"{path}: a reward model of kind {card.kind!r}; expected {' or '.join(wanted)}")
    if weights and (digest := fingerprint(folder)) != card.weights_sha256:
        raise CheckpointError(
            f"{folder}: the weights are not those of {FILE} (SHA-256 {digest[:12]}, expected "
            f"{card.weights_sha256[:12]}): a copy cut short, or weights that were replaced; copy the folder again"
        )
    return card


def fingerprint(folder: str | Path) -> str:
    """SHA-256 over the weights of a Hugging Face folder, file by file in the order of their names.

    Raises:
        CheckpointError: there are none.
    """
    files = sorted([*Path(folder).glob("*.safetensors"), *Path(folder).glob("*.bin")])
    if not files:
        raise CheckpointError(f"{folder}: no weights; expected model.safetensors, or shards of it")
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.name.encode())
        with open(file, "rb") as data:
            whole.update(hashlib.file_digest(data, "sha256").digest())
    return whole.hexdigest()


def template_hash(template: str, tokenizer: Any) -> str:
    """SHA-256 of the template that is in force: the tokenizer's own for `chat`."""
    text = tokenizer.chat_template if template == CHAT else template
    return hashlib.sha256(str(text).encode()).hexdigest()


def check_template(card: Card, tokenizer: Any, where: str | Path) -> None:
    """Check that the template is the one that the model was trained with.

    Raises:
        CheckpointError: it is another, so that the model would read input of a form that it never learned.
    """
    current = template_hash(card.template, tokenizer)
    if current != card.template_sha256:
        whose = "the tokenizer's chat template" if card.template == CHAT else f"`template` in {FILE}"
        raise CheckpointError(
            f"{where}: {whose} is not the one that the model was trained with (SHA-256 {current[:12]}, expected "
            f"{card.template_sha256[:12]}); put the original back, or train again with the new one"
        )


def _parsed(path: Path) -> Card:
    try:
        values = json_text.parse(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}; copy the folder again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}; expected an object")
    try:
        if isinstance(values.get("calibration"), dict):
            values["calibration"] = construct(Calibration, values["calibration"], f"{path}: calibration")
        card: Card = construct(Card, values, str(path))
    except RecipeError as error:
        raise CheckpointError(f"{error}; expected what `llmrl reward-model` writes") from error
    return card
