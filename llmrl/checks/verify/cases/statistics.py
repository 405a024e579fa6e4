"""The functions that answer `cases/statistics.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from llmrl.ops.aggregate import interquartile_mean, optimality_gap, percentile, probability_of_improvement, profile
from llmrl.ops.divergence import GradedTwice, agreement, divergence, rise
from llmrl.ops.fidelity import ndtw, path_length, success_by_length, warping_distance
from llmrl.ops.gaussian_process import predicted
from llmrl.ops.judgement import bins, brier, calibration_error, roc_auc, spearman
from llmrl.ops.mixtures import best_mixture
from llmrl.ops.moments import Moments, standardised
from llmrl.samples import Sample

Given = Mapping[str, Any]


def runs_and_tasks(given: Given) -> dict[str, Any]:
    scores, other = given["scores"], given["other"]
    return {
        "interquartile_mean": interquartile_mean(scores),
        "optimality_gap": optimality_gap(scores, given["gamma"]),
        "improvement": probability_of_improvement(scores, other),
        "profile": profile(scores, given["levels"]),
        "percentiles": [percentile(given["ordered"], share) for share in given["shares"]],
    }


def proxy_and_gold(given: Given) -> dict[str, Any]:
    pairs = [GradedTwice(*pair) for pair in given["pairs"]]
    judged = [GradedTwice(*pair) for pair in given["judged"]]
    return {
        "rise": rise(given["proxy"]),
        "divergence": divergence(given["proxy"], given["truth"]),
        "together": divergence(given["proxy"], given["proxy"]),
        "agreement": agreement(pairs),
        "verdicts": agreement(judged),
    }


def paths(given: Given) -> dict[str, Any]:
    query, reference = given["query"], given["reference"]
    return {
        "spl": [success_by_length(*each) for each in given["taken"]],
        "length": path_length(query),
        "dtw": warping_distance(query, reference),
        "ndtw": ndtw(query, reference, given["threshold"]),
    }


def gaussian_process(given: Given) -> dict[str, Any]:
    inputs, places = np.array(given["inputs"])[:, None], np.array(given["places"])[:, None]
    mean, deviation = predicted(inputs, np.array(given["targets"]), places, given["noise"])
    return {"mean": mean.tolist(), "deviation": deviation.tolist()}


def two_clusters(given: Given) -> dict[str, Any]:
    points = np.array(given["points"])[:, None]
    found = best_mixture(points, given["components"])
    order = np.argsort(found.means[:, 0])
    return {
        "weights": found.weights[order].tolist(),
        "means": found.means[order, 0].tolist(),
        "variances": found.covariances[order, 0, 0].tolist(),
        "aic": found.aic(points),
    }


def running_rewards(given: Given) -> dict[str, Any]:
    made = partial(Sample, group="g", dtype=np.float64)
    rows = [
        made(
            episode=i,
            reward=row["reward"],
            turn_rewards=row["turns"],
            origin=row["origin"],
            columns={"token_ids": [0, 1], "turn_ids": [-1, 0], "token_rewards": [0.0, row["token"]]},
        )
        for i, row in enumerate(given["rows"])
    ]
    scaled, moments = standardised(rows, Moments().seen(given["before"]))
    return {
        "mean": moments.mean,
        "deviation": moments.deviation,
        "rewards": [row.reward for row in scaled],
        "turns": [float(row.turn_rewards[0]) for row in scaled],
        "tokens": [float(row.get("token_rewards")[1]) for row in scaled],
    }


def chances(given: Given) -> dict[str, Any]:
    said, came = given["said"], given["came"]
    return {
        "auc": roc_auc(said, came),
        "spearman": spearman(said, given["other"]),
        "brier": brier(said, came),
        "ece": calibration_error(said, came, given["bins"]),
        "counts": [part.count for part in bins(said, came, given["bins"])],
    }
