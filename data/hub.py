"""Datasets of the Hugging Face hub by their name there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmrl.data.jsonl import Jsonl
from llmrl.types import Problem


@dataclass(frozen=True)
class Hub:
    """Problems of a dataset of the hub, `{name: hub, path: owner/dataset}`; columns are recognised as `jsonl` does."""

    path: str  # the dataset's name, owner/dataset
    config: str | None = None  # a part of it, such as `main`
    split: str = "train"
    prompt_column: str | None = None  # text, or a list of messages; dots reach into objects
    answer_column: str | None = None
    id_column: str = "id"  # where a row has none, it is the dataset's name and the row's number
    instruction: str = ""  # a line after the last user message

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the rows.

        Raises:
            DataError: the hub does not have it, or cannot be reached; or a broken row, as of `jsonl`.
        """
        rows = Jsonl(
            dataset_name=self.path,
            dataset_config=self.config,
            split=self.split,
            prompt_column=self.prompt_column,
            answer_column=self.answer_column,
            id_column=self.id_column,
            instruction=self.instruction,
        )
        return rows.problems()


plugin = Hub
