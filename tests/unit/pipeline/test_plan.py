"""Plans: a stage is done, goes on, waits, or is stale and why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import CheckpointError, DataError
from llmrl.pipeline.plan import begin, digest, finish, lines, plan, standing_of
from llmrl.pipeline.stages import Pipeline, parse
from llmrl.run_folder import checksums


def made(folder: Path, **changes: Any) -> Pipeline:
    """sft -> clone -> check, and alone beside them."""
    rows = folder / "rows.jsonl"
    if not rows.exists():
        rows.write_text('{"prompt": "1+1=", "completion": "2"}\n')
    clone: dict[str, Any] = {
        "model": {"policy": "${sft.final}"},
        "algorithm": {"name": "bc"},
        "source": {"name": "offline", "path": str(rows)},
        "train": {"max_steps": 3, **changes},
    }
    alone = {"model": "base", "benchmarks": ["arithmetic"]}
    stages = [
        {"name": "sft", "sft": {"model": "base", "data": str(rows), "max_steps": 2}},
        {"name": "clone", "train": clone},
        {"name": "check", "eval": {"model": "${clone.final}", "benchmarks": ["arithmetic"]}},
        {"name": "alone", "eval": alone},
    ]
    return parse({"stages": stages, "output_dir": str(folder), "run_name": "p"}, "p.yaml", "p")


def work(pipeline: Pipeline, *names: str, content: str = "weights") -> None:
    """Do stages as if their processes had: their outputs appear."""
    for name in names:
        begin(pipeline, standing_of(pipeline, pipeline[name]))
        for path in pipeline[name].acts.outputs.values():
            output = pipeline.folder / name / path
            if path == "final":
                output.mkdir()
                (output / "model.safetensors").write_text(content)
            else:
                output.write_text(content)
        finish(pipeline, pipeline[name])


def states(pipeline: Pipeline) -> dict[str, str]:
    return {standing.stage.name: standing.state for standing in plan(pipeline)}


ALL = ("sft", "clone", "check", "alone")


def test_stages_wait_for_those_that_they_read(tmp_path: Path) -> None:
    pipeline = made(tmp_path)
    assert states(pipeline) == {"sft": "missing", "clone": "waits", "check": "waits", "alone": "missing"}
    work(pipeline, "sft")
    begin(pipeline, standing_of(pipeline, pipeline["clone"]))
    assert states(pipeline) == {"sft": "done", "clone": "resumes", "check": "waits", "alone": "missing"}
    work(pipeline, "clone", "check", "alone")
    assert states(pipeline) == dict.fromkeys(ALL, "done")


def test_a_byte_of_an_input_makes_its_readers_stale(tmp_path: Path) -> None:
    pipeline = made(tmp_path)
    work(pipeline, *ALL)
    rows = tmp_path / "rows.jsonl"
    before = rows.stat()
    rows.write_text(rows.read_text().replace('"2"', '"3"'))
    os.utime(rows, ns=(before.st_atime_ns, before.st_mtime_ns))  # a date is no evidence
    assert states(pipeline) == {"sft": "stale", "clone": "waits", "check": "waits", "alone": "done"}
    (standing, *_) = plan(pipeline)
    assert standing.why == f"{rows} has changed"


def test_a_stage_that_makes_the_same_again_leaves_those_behind_it(tmp_path: Path) -> None:
    pipeline = made(tmp_path)
    work(pipeline, *ALL)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    work(pipeline, "sft")  # its weights are equal
    assert states(pipeline) == {"sft": "done", "clone": "stale", "check": "waits", "alone": "done"}
    work(pipeline, "clone")
    assert states(pipeline) == dict.fromkeys(ALL, "done"), "the model that check reads is the same"
    assert (pipeline.folder / "sft.stale-1" / "final" / "model.safetensors").exists()


def test_a_changed_output_makes_its_readers_stale_and_not_its_maker(tmp_path: Path) -> None:
    pipeline = made(tmp_path)
    work(pipeline, *ALL)
    (pipeline.folder / "clone" / "final" / "model.safetensors").write_text("weightz")
    assert states(pipeline) == {"sft": "done", "clone": "done", "check": "stale", "alone": "done"}


def test_a_changed_recipe_says_what_changed(tmp_path: Path) -> None:
    work(made(tmp_path), *ALL)
    pipeline = made(tmp_path, seed=4, max_steps=5)
    assert states(pipeline) == {"sft": "done", "clone": "stale", "check": "waits", "alone": "done"}
    text = "\n".join(lines(plan(pipeline)))
    assert "train.max_steps was 3, is 5; train.seed was unset, is 4" in text
    assert "waits    for clone; runs again if what it reads changes" in text
    assert states(made(tmp_path, save_steps=1, report_to="none", stop_grace_s=5.0)) == dict.fromkeys(ALL, "done")


def test_a_lost_output_is_made_again(tmp_path: Path) -> None:
    pipeline = made(tmp_path)
    work(pipeline, *ALL)
    (pipeline.folder / "check" / "results.json").unlink()
    assert states(pipeline)["check"] == "stale"
    assert plan(pipeline)[2].why == "its results.json is gone"


def test_what_no_stage_has_made_is_left_alone(tmp_path: Path) -> None:
    pipeline = made(tmp_path)
    (pipeline.folder / "sft").mkdir(parents=True)
    (pipeline.folder / "sft" / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"sft: holds thesis.txt and no stage.json.*move it away"):
        plan(pipeline)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    pipeline = made(tmp_path)
    work(pipeline, "sft")
    (pipeline.folder / "sft" / "stage.json").write_text("{")
    with pytest.raises(DataError, match=r"stage.json"):
        plan(pipeline)


def test_an_end_without_outputs_is_refused(tmp_path: Path) -> None:
    pipeline = made(tmp_path)
    begin(pipeline, standing_of(pipeline, pipeline["sft"]))
    with pytest.raises(CheckpointError, match=r"stage sft has ended without its output final"):
        finish(pipeline, pipeline["sft"])
    assert not json.loads((pipeline.folder / "sft" / "stage.json").read_text())["finished"]


def test_logs_beside_a_model_are_no_part_of_its_hash(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    before = digest(tmp_path)
    (tmp_path / "eval").mkdir()
    for name in ("metrics.jsonl", "recipe.yaml", "run.lock", "eval/results.json"):
        (tmp_path / name).write_text("seconds")
    assert digest(tmp_path) == before
    (tmp_path / "config.json").write_text("{}")
    assert digest(tmp_path) != before


def test_the_hash_of_a_sealed_folder_is_that_of_its_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    checksums.write(tmp_path, checksums.flushed(tmp_path, checksums.names(tmp_path)))
    before = digest(tmp_path)
    (tmp_path / "run.lock").write_text("pid")
    (tmp_path / "metrics.jsonl").write_text("seconds")
    assert digest(tmp_path) == before
    (tmp_path / "model.safetensors").write_text("weightz")
    assert digest(tmp_path) != before


def test_a_cache_that_a_stage_fills_is_no_input_of_it(tmp_path: Path) -> None:
    server = {"url": "http://127.0.0.1:1/v1", "cache": str(tmp_path / "cache")}
    stage = {"env": "maze", "data": {"name": "games", "env": "maze"}, "server": server}
    stages = [{"name": "propose", "subgoals": stage}]
    pipeline = parse({"stages": stages, "output_dir": str(tmp_path), "run_name": "p"}, "p.yaml", "p")
    work(pipeline, "propose")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "reply.json").write_text("{}")
    assert states(pipeline) == {"propose": "done"}
