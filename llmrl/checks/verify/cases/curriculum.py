"""The functions that answer `cases/curriculum.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from llmrl.ops.curriculum import bin_probabilities, cooled, learning_progress, transfer_gain

Given = Mapping[str, Any]


def alp_teacher(given: Given) -> dict[str, Any]:
    tasks, rewards = np.array(given["history_task"])[:, None], np.array(given["history_reward"])
    neighbour, progress = learning_progress(tasks, rewards, np.array([given["new_task"]]), given["new_reward"])
    shares = bin_probabilities(np.array(given["bin_mean_alp"]), given["random_ratio"])
    return {"neighbour": neighbour, "alp": progress, "bin_probs": shares.tolist()}


def mbtl_acquisition(given: Given) -> dict[str, Any]:
    mean, deviation, places, best = (np.array(given[name]) for name in ("mu", "sigma", "context", "best_so_far"))
    distances = np.abs(places[:, None] - places[None])
    gains = transfer_gain(mean, deviation, given["beta_ucb"], given["slope"], distances, best)
    return {"acquisition": gains.tolist(), "next_source": int(gains.argmax())}


def qarl_schedule(given: Given) -> dict[str, Any]:
    rule = {name: given[name] for name in ("threshold", "decay", "floor")}
    _, *temperatures = accumulate(
        given["success"], lambda temperature, success: cooled(temperature, success, **rule), initial=given["t0"]
    )
    return {"temperature": temperatures}
