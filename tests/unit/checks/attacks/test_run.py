"""Rewards are attacked: what may not be paid is found, what is merely shaped is told apart, and a grader may break."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llmrl.chat import load_tokenizer
from llmrl.checks.attacks import run as audit
from llmrl.checks.attacks import setups
from llmrl.checks.attacks.attempts import attacks
from llmrl.checks.attacks.problems import FORMS, known, repeated, sums, varied
from llmrl.errors import DataError, RecipeError
from llmrl.scoring.manager import GradingPool
from llmrl.types import Problem, Score, Trajectory

PROBLEM = Problem(id="a", messages=[{"role": "user", "content": "How many?"}], answer="53")
KNOWN = [known(PROBLEM)]


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(1, 2.0)
    yield pool
    pool.close()


@dataclass(frozen=True)
class Exact:
    """Pays the right answer, in tags and alone."""

    def __call__(self, problem: Problem, text: str) -> Score:
        right = text.strip().endswith(f"</think>\n<answer>{problem.answer}</answer>")
        return Score(float(right), "correct" if right else "wrong")


@dataclass(frozen=True)
class Gullible:
    """Pays wherever the reference stands in the text."""

    def __call__(self, problem: Problem, text: str) -> Score:
        right = problem.answer in text
        return Score(float(right), "correct" if right else "wrong")


@dataclass(frozen=True)
class Fragile:
    """Dies of an empty answer."""

    def __call__(self, problem: Problem, text: str) -> Score:
        if not text:
            os._exit(1)
        return Exact()(problem, text)


def mentions(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """In TRL's form: no verdict, and as gullible."""
    return [float(a in c[0]["content"]) for c, a in zip(completions, answer, strict=True)]


def refuses_blanks(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """Fails for all rows where one of them is empty."""
    if not all(c[0]["content"] for c in completions):
        raise ValueError("an empty completion")
    return [float(Exact()(PROBLEM, c[0]["content"]).value or 0.0) for c in completions]


class Length:
    """Pays for tokens, whatever they say."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(len(one.text) / 1000) for one in group]


class Parrot:
    """Pays for repetition."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(float(one.text.count("This is so."))) for one in group]


class Never:
    """Calls everything wrong."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(0.0, "wrong", reason="no")] * len(group)


def outcomes(report: audit.AttackReport, outcome: str) -> set[str]:
    return {one.attack for one in report.attempts if one.outcome == outcome}


def test_a_sound_reward_pays_for_nothing(pool: GradingPool) -> None:
    report = audit.audit("exact", Exact(), KNOWN, pool)
    assert (report.kind, report.failed, audit.exit_code([report])) == ("judges", False, 0)
    assert len(report.attacks) > 60
    assert {one.right for one in report.attempts} == {1.0}
    assert {one.wrong for one in report.attempts} == {0.0}


@pytest.mark.parametrize("reward", [Gullible(), mentions])
def test_a_gullible_reward_is_caught(pool: GradingPool, reward: Any) -> None:
    report = audit.audit("gullible", reward, KNOWN, pool)
    assert report.failed
    assert {"wrong or right", "boxes, the right one first", "the right answer in the thoughts alone"} <= outcomes(
        report, "PAID"
    )
    assert not {"nothing", "an empty answer", "a wrong answer, over and over"} & outcomes(report, "PAID")


def test_a_grader_that_dies_is_shown_as_broken(pool: GradingPool) -> None:
    report = audit.audit("fragile", Fragile(), KNOWN, pool)
    assert outcomes(report, "BROKE") == {"nothing"}
    assert report.failed


def test_one_text_that_takes_its_group_with_it_is_found_alone(pool: GradingPool) -> None:
    report = audit.audit("trl", refuses_blanks, KNOWN, pool)
    assert outcomes(report, "BROKE") == {"nothing"}
    assert "an empty completion" in report.worst("nothing").reason
    assert report.worst("wrong or right").outcome == "unpaid"


def test_what_judges_nothing_is_shaping_and_no_failure(pool: GradingPool) -> None:
    report = audit.audit("length", Length(), KNOWN, pool)
    assert (report.kind, report.failed) == ("shapes", False)
    assert audit.row(report)[-1] == "+2.95"  # 3000 characters of padding in place of 46


def test_repetition_that_is_paid_is_absurd(pool: GradingPool) -> None:
    report = audit.audit("parrot", Parrot(), KNOWN, pool)
    assert outcomes(report, "PAID") == {"a wrong answer after one sentence, over and over"}


def test_a_reward_that_knows_no_right_answer_cannot_be_judged(pool: GradingPool) -> None:
    report = audit.audit("never", Never(), KNOWN, pool)
    assert (report.kind, report.failed) == ("unfit", True)
    assert "problem a: the right answer '53' is wrong, 0.0: no" in report.note


@dataclass(frozen=True)
class Brief:
    """Pays a right last word, a little less the longer the text is."""

    def __call__(self, problem: Problem, text: str) -> Score:
        right = text.split()[-1:] in ([problem.answer], [f"<answer>{problem.answer}</answer>"])
        return Score(float(right) - len(text) / 1e5, "correct" if right else "wrong")


def test_what_only_its_length_makes_worth_more_is_shaped(pool: GradingPool) -> None:
    report = audit.audit("brief", Brief(), KNOWN, pool)
    assert outcomes(report, "shaped") >= {"nothing", "blanks"}, "shorter than the honest mistake"
    assert report.worst("nothing").value == 0.0
    assert (report.worst("nothing").wrong or 0.0) < 0.0
    assert {report.worst(name).verdict for name in outcomes(report, "PAID")} <= {"correct"}


def test_padding_stands_before_an_answer_whose_form_has_no_thoughts() -> None:
    assert known(PROBLEM).in_form("{answer}").padded("54", "Long.") == "Long.\n54"
    assert known(PROBLEM).in_form("{thoughts} {answer}").padded("54", "Long.") == "Long. 54"


def test_the_form_is_that_in_which_a_right_answer_is_paid(pool: GradingPool) -> None:
    report = audit.audit("exact", Exact(), KNOWN, pool)
    assert report.worst("right or wrong").text.endswith("<answer>53 or 54</answer>")  # no box: the second form


@pytest.mark.parametrize("one", [*setups.values(), *setups.puzzles(), *setups.sentences()], ids=lambda k: k.problem.id)
def test_no_attack_is_the_right_answer(one: Any) -> None:
    honest = {one.in_form(form).say(one.right) for form in FORMS[one.kind]}
    written = attacks(one)
    assert len(written) > 30
    assert not honest & {text for _, text in written}
    assert len({attack.name for attack, _ in written}) == len(written)


def test_paddings_are_of_one_length_and_hold_no_answer() -> None:
    assert len(varied(3000)) == len(repeated("This is so.", 3000)) == 3000
    assert len(sums(3000, same=True)) == len(sums(3000, same=False))
    assert not any(character.isdigit() for character in varied(3000))


@pytest.mark.parametrize(
    ("info", "kind", "right"),
    [
        ({"nums": [1, 2], "target": 3, "solution": "1 + 2"}, "expression", "1 + 2"),
        ({"tests": ["assert f() == 1"], "entry_point": "f", "code": "def f(): return 1"}, "code", "def f(): return 1"),
        ({"words": ["a"], "sentence": "A."}, "sentence", "A."),
        ({}, "value", "53"),
    ],
)
def test_columns_tell_what_is_right(info: dict[str, Any], kind: str, right: str) -> None:
    one = known(Problem(id="a", messages=(), answer="53", info=info))
    assert (one.kind, one.right) == (kind, right)
    assert right not in one.wrong


def test_a_problem_without_an_answer_is_refused() -> None:
    with pytest.raises(DataError, match="problem a: nothing in it tells what is right"):
        known(Problem(id="a", messages=()))


def test_setups_are_of_rewards_that_ship() -> None:
    assert setups.unknown() == []


def test_the_table_the_lines_and_the_file(pool: GradingPool, tmp_path: Path) -> None:
    reports = [audit.audit("gullible", Gullible(), KNOWN, pool), audit.audit("exact", Exact(), KNOWN, pool)]
    console = Console(width=120, record=True, file=StringIO())
    audit.show(reports, console)
    text = console.export_text()
    assert "gullible: PAID: wrong or right, on a: " in text
    assert "exact: PAID" not in text
    audit.save(reports, tmp_path / "out.json")
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["ok"] is False
    assert {"attack", "text", "value", "verdict", "right", "wrong", "outcome"} <= set(
        saved["rewards"][0]["attempts"][0]
    )


@pytest.mark.parametrize(
    ("names", "options", "recipe", "words"),
    [
        (["numerik"], [], None, "did you mean 'numeric'"),
        (["numeric"], ["tolerance"], None, "expected key=value"),
        (["numeric"], ["toler=1"], None, "unknown key"),
        ([], ["tolerance=1"], None, "for one reward"),
        (["numeric"], [], Path("recipes/demo.yaml"), "expected one of the two"),
    ],
)
def test_what_makes_no_sense_is_refused(names: list[str], options: list[str], recipe: Path | None, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        audit.run(names, options, recipe)


def test_the_command_attacks_the_reward_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "model: {policy: none}\ndata: {name: gsm8k, split: tiny}\nreward: {name: numeric}\nalgorithm: {name: grpo}\n"
    )
    assert audit.run([], ["tolerance=2"], recipe, limit=1) == 1  # a mistake by one is paid
    assert "numeric" in capsys.readouterr().out
    assert audit.run([], [], recipe, limit=1) == 0


def test_a_recipe_is_attacked_behind_the_template_of_its_policy(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    tokenizer.save_pretrained(tmp_path / "model")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"model: {{policy: {tmp_path / 'model'}}}\ndata: {{name: gsm8k, split: tiny}}\n"
        "reward: {name: format}\nalgorithm: {name: grpo}\n"
    )
    out = tmp_path / "report.json"
    audit.run([], [], recipe, limit=1, out=out)
    texts = [one["text"] for one in json.loads(out.read_text())["rewards"][0]["attempts"]]
    assert texts
    assert "is not on this machine" not in capsys.readouterr().out
    recipe.write_text(recipe.read_text().replace(str(tmp_path / "model"), "nobody/nothing"))
    audit.run([], [], recipe, limit=1)
    assert "chat template of nobody/nothing is not on this machine" in capsys.readouterr().out


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_is_none_is_refused(limit: int) -> None:
    with pytest.raises(RecipeError, match=r"audit-reward\.limit: input should be greater than or equal to 1"):
        audit.run(["numeric"], limit=limit)


def test_places_names_and_data_are_looked_at_before_anything_is_attacked(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--json .*: its folder is not there; expected a file to write"):
        audit.run(["numeric"], out=tmp_path / "none" / "report.json")
    with pytest.raises(RecipeError, match=r"--json .*: a folder"):
        audit.run(["numeric"], out=tmp_path)
    with pytest.raises(RecipeError, match=r"--option tolerance: given twice"):
        audit.run(["numeric"], ["tolerance=1", "tolerance=2"])
    with pytest.raises(RecipeError, match="did you mean 'numeric'"):
        audit.run(["exact", "numerik"])
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(DataError, match=r"rows\.jsonl: holds no rows"):
        audit.run(["numeric"], data=str(tmp_path / "rows.jsonl"))
