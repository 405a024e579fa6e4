"""Values that ranks exchange come out equal, and their arrays travel beside them."""

from __future__ import annotations

import pickle
from array import array

import numpy as np

from llmrl.train.exchange import pack, unpack
from llmrl.types import Completion, Ragged, Trajectory, Turn
from tests.builders import QUESTION


def episode() -> Trajectory:
    completion = Completion(
        token_ids=array("i", [5, 6, 7]),
        logprobs=array("f", [-0.5, -1.5, -0.25]),
        finish="stop",
        version=3,
        support_ids=Ragged.of([[5, 9], [6], [7, 8]]),
    )
    turn = Turn(prompt_ids=array("i", [1, 2]), completion=completion, text="caf\u00e9 \U0001f600")
    return Trajectory(problem=QUESTION, turns=[turn], status="done", group="g", episode=1)


def test_episodes_and_columns_come_back_equal() -> None:
    items = [episode(), ("indices", {"logprobs": np.arange(4, dtype=np.float32)}), [], None, float("inf")]
    again = unpack(pack(items))
    assert again[0] == items[0]
    assert type(again[0].turns[0].prompt_ids) is array
    assert again[1][1]["logprobs"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert again[1][1]["logprobs"].dtype == np.float32
    assert again[2:] == items[2:]
    assert unpack(pack([])) == []


def test_arrays_stand_in_the_block_and_nowhere_else() -> None:
    ids = array("i", range(10_000))
    rest, sizes, block = pack([ids, ids, np.arange(3)])
    assert len(rest) < 1000
    assert sizes == [40_000, 24], "an array that is named twice travels once"
    assert len(block) == sum(sizes)
    first, second, _ = unpack((rest, sizes, block))
    assert first is second, "and is one object afterwards, as prompts that siblings share"


def test_an_array_can_be_written_to_and_holds_no_block() -> None:
    packed = pack([array("f", [1.0, 2.0])])
    (again,) = unpack(packed)
    again.append(3.0)
    assert again.tolist() == [1.0, 2.0, 3.0]
    assert pickle.loads(pickle.dumps(again)) == again
