"""Requests that wait for Transformers' generation, and the batches in which they run."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from llmrl.types import Completion, Sampling


class Request(NamedTuple):
    """A prompt, and who waits for its completion."""

    prompt_ids: list[int]
    sampling: Sampling  # with its seed, and max_tokens cut to the room there is
    future: asyncio.Future[Completion]
    images: list[str]  # whose tokens are in the prompt


def batches(requests: Sequence[Request], most: int) -> list[list[Request]]:
    """Group requests that agree in all but the seed, at most `most`, of similar length so that little is padding."""
    alike: dict[Sampling, list[Request]] = defaultdict(list)
    for request in requests:
        alike[replace(request.sampling, seed=None)].append(request)
    made = []
    for group in alike.values():
        group.sort(key=lambda r: len(r.prompt_ids))
        made += [group[i : i + most] for i in range(0, len(group), most)]
    return made
