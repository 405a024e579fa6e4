"""Errors of other libraries, written into a copy of this one: each fails the test that docs/verify.md names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "verify.md"
LIMIT_S = 120.0  # of one run of pytest; about six on an idle core


@dataclass(frozen=True, kw_only=True)
class Planted:
    """An error as a peer has it, the test that must fail, and what that test then says."""

    error: str  # as docs/verify.md has it
    test: str
    file: str
    edits: tuple[tuple[str, str], ...]  # the right text, which occurs once, and the peer's
    said: str = r"AssertionError|^E +assert "  # a regular expression, among pytest's lines

    def into(self, text: str) -> str:
        """The file's text with the error in it."""
        for right, wrong in self.edits:
            found = text.count(right)
            assert found == 1, f"{self.file} has this text {found} times; expected once:\n{right}"
            text = text.replace(right, wrong)
        return text


GAE = "tests/unit/ops/test_gae.py::"
OREAL = "tests/unit/algorithms/test_oreal.py::"
MISMATCH = "tests/unit/ops/test_mismatch.py::"
SHAPING = "tests/unit/rewards/test_shaping.py::"
NEUTRAL = "an exception in a reward becomes a neutral reward"
BEFORE = "log-probabilities before the temperature, or renormalised, in a ratio"

PLANTED = [
    Planted(
        error="advantages leak across observed tokens, whose values are masked and not skipped",
        test=GAE + "test_gae_skips_observed_tokens",
        file="llmrl/ops/gae.py",
        edits=(
            (
                "    earned, known = _of_actions(rewards, mask), _of_actions(values, mask)\n",
                "    earned, known = np.asarray(rewards), np.asarray(values) * np.asarray(mask)\n",
            ),
            (
                "    return spread(discounted(deltas, discount * lam), mask)",
                "    return discounted(deltas, discount * lam)",
            ),
        ),
    ),
    Planted(
        error="returns begin again at every observed token",
        test=GAE + "test_returns_go_on_across_observed_tokens",
        file="llmrl/ops/gae.py",
        edits=(
            (
                "    return spread(discounted(_of_actions(rewards, mask), _discounts(gamma, mask)), mask)",
                "    sums, chosen = np.zeros(len(np.asarray(mask)) + 1), np.asarray(mask)\n"
                "    for i in reversed(range(len(chosen))):\n"
                "        sums[i] = (np.asarray(rewards)[i] + gamma * sums[i + 1]) * chosen[i]\n"
                "    return sums[:-1]",
            ),
        ),
    ),
    Planted(
        error="the longest row of a batch counts as cut off",
        test="tests/unit/algorithms/ppo/test_credit.py::test_only_what_a_limit_cut_off_counts_as_cut_off",
        file="llmrl/algorithms/ppo/__init__.py",
        edits=(
            (
                "        tracks = (\n            self._track(episode)\n",
                "        width = max(len(row.token_ids) for row in samples)\n"
                "        samples = [replace(row, truncated=len(row.token_ids) == width) for row in samples]\n"
                "        tracks = (\n            self._track(episode)\n",
            ),
        ),
    ),
    Planted(
        error="means of micro-batches are averaged",
        test="tests/integration/test_invariance.py::test_neither_the_budget_nor_packing_changes_the_gradient",
        file="llmrl/train/learner.py",
        edits=(
            (
                "total = (loss.terms * weights).sum() * scale\n",
                "total = (loss.terms * weights).sum() / weights.sum() * scale\n",
            ),
        ),
    ),
    Planted(
        error="a bound on the product of ratios throws long answers away first",
        test=MISMATCH + "test_a_product_rejects_what_is_long_and_nothing_else_does",
        file="llmrl/ops/ratio_options.py",
        edits=(
            (
                'importance_sampling_correction: Mode = "token_truncate"',
                'importance_sampling_correction: Mode = "sequence_mask"',
            ),
        ),
    ),
    Planted(
        error=BEFORE,
        test=MISMATCH + "test_log_probabilities_of_another_distribution_are_refused",
        file="llmrl/ops/mismatch.py",
        edits=(
            (
                '        if row.semantics != "scaled":\n',
                '        if row.semantics not in ("scaled", "raw", "renormalised"):\n',
            ),
        ),
        said="DID NOT RAISE",
    ),
    Planted(
        error=BEFORE,
        test="tests/integration/test_hf_engine.py::test_sampled_logprobs_are_those_of_a_forward_pass",
        file="llmrl/engines/hf/sampler.py",
        edits=(
            (
                "        if self._temperature > 0:\n            scores = scores / self._temperature\n",
                "        raw = scores.log_softmax(-1)\n"
                "        if self._temperature > 0:\n            scores = scores / self._temperature\n",
            ),
            ("self._logprobs.append(logprobs.gather(-1, tokens))", "self._logprobs.append(raw.gather(-1, tokens))"),
        ),
    ),
    Planted(
        error="answers that are dropped stay in the denominator of their class",
        test=OREAL + "test_what_is_not_trained_is_not_counted",
        file="llmrl/algorithms/oreal.py",
        edits=(
            (
                "{side: sum(row.actions for row, gain in chosen if (gain > 0) == side) for side in (True, False)}",
                "{side: sum(row.actions for row in samples if self._right(row) == side) for side in (True, False)}",
            ),
        ),
    ),
    Planted(
        error="a token reward model that begins at 0 leaves the policy without a signal, unnoticed",
        test=OREAL + "test_a_zero_head_gives_the_policy_no_signal",
        file="llmrl/algorithms/oreal.py",
        edits=(("return [critic] if step < self.critic_only_steps else [critic, policy]", "return [critic, policy]"),),
    ),
    Planted(
        error=NEUTRAL,
        test=SHAPING + "test_an_exception_is_no_neutral_reward",
        file="rewards/rlsp.py",
        edits=(
            (
                '            return replace(score, value=None, verdict=grade.verdict or "error", parts=parts, '
                "reason=grade.reason)\n",
                "            grade = Score(0.5)\n",
            ),
        ),
    ),
    Planted(
        error=NEUTRAL,
        test=SHAPING + "test_an_exception_is_no_neutral_reward",
        file="rewards/rlsp.py",
        edits=(
            (
                "        base -= self.penalty / (max(1, box if box >= 0 else len(text)) / 4)\n",
                "        try:\n"
                "            base -= self.penalty / ((box if box >= 0 else len(text)) / 4)\n"
                "        except ZeroDivisionError:\n"
                "            return 0.0\n",
            ),
        ),
    ),
    Planted(
        error="a text shorter than an n-gram",
        test=SHAPING + "test_an_answer_shorter_than_a_run_is_not_repetitive",
        file="rewards/repetition.py",
        edits=(("share = sum(again) / len(again) if again else 0.0", "share = sum(again) / len(again)"),),
        said="ZeroDivisionError: division by zero",
    ),
    Planted(
        error="a refreshed mask that never reaches the sampler",
        test="tests/integration/test_hf_engine.py::test_a_mask_policy_lags_and_its_refresh_reaches_the_sampler",
        file="llmrl/engines/hf/__init__.py",
        edits=(
            (
                "        self._loaded = False\n",
                "        self._loaded = False\n        self._processor_mask = self._mask\n",
            ),
            (
                "                self._mask.load_state_dict(own)\n",
                "                self._mask = copy.deepcopy(self._network)\n",
            ),
            (
                "self._options.min_tokens_to_keep, self._stop, self._mask, attended)",
                "self._options.min_tokens_to_keep, self._stop, self._processor_mask, attended)",
            ),
        ),
    ),
    Planted(
        error="powers and floor division in an arithmetic grader",
        test="tests/unit/rewards/test_countdown.py::test_only_whole_numbers_and_four_operators_are_read",
        file="llmrl/answers/arithmetic.py",
        edits=(
            (
                "    used: Counter[int] = Counter()\n    return _value(tree.body, used), used\n",
                '    used = Counter(int(digits) for digits in re.findall(r"\\d+", expression))\n'
                "    return Fraction(eval(compile(tree, expression, 'eval'), {})), used\n",
            ),
        ),
        said=r"^FAILED .*\[2\*\*25\].*\n(.*\n)*?^FAILED .*\[25//3\]",
    ),
    Planted(
        error="a judge's reply without a number counted as 0",
        test="tests/unit/rewards/test_behaviours.py::test_the_last_count_is_read_and_a_missing_one_is_not_0",
        file="rewards/behaviour_judge.py",
        edits=(("return int(found[-1]) if found else None", "return int(found[-1]) if found else 0"),),
    ),
    Planted(
        error="a moving average in bfloat16 that does not move",
        test="tests/integration/test_critic.py::test_a_reference_follows_by_its_share_on_time",
        file="llmrl/train/moving_copy.py",
        edits=(("net = net.float().requires_grad_(False)", "net = net.requires_grad_(False)"),),
        said=r"^FAILED .*\[bfloat16\]",
    ),
    Planted(
        error="the ends of a histogram decoded too far inside",
        test="tests/unit/ops/test_heads.py::test_padding_by_default_leaves_no_bias_at_the_ends",
        file="llmrl/ops/heads.py",
        edits=(("    padding: float = 4.0", "    padding: float = 0.0"),),
    ),
]


def copied(folder: Path) -> Path:
    """Copy the files that git tracks, as they are in this checkout, links as links; skip without git."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def ran(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Pytest on these tests of a copy, whose llmrl is the one that is imported."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=short", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S * len(tests), check=False
    )


@pytest.mark.slow
def test_without_an_error_none_of_them_fails(tmp_path: Path) -> None:
    done = ran(copied(tmp_path), *sorted({one.test for one in PLANTED}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed in ", done.stdout, re.MULTILINE), "none was skipped"


@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED, ids=[one.test.rpartition("::")[2] for one in PLANTED])
def test_the_error_of_a_peer_fails_its_test(planted: Planted, tmp_path: Path) -> None:
    file = copied(tmp_path) / planted.file
    file.write_text(planted.into(file.read_text(encoding="utf-8")), encoding="utf-8")
    done = ran(tmp_path, planted.test)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told  # 1: tests ran and failed; other numbers: none was collected, pytest broke
    assert re.search(r"^[1-9]\d* failed", told, re.MULTILINE), told
    assert not re.search(r"\b(ImportError|ModuleNotFoundError|NameError|SyntaxError|\d+ errors?\b)", told), told
    assert re.search(planted.said, told, re.MULTILINE), told


@pytest.mark.parametrize("planted", PLANTED, ids=[one.test.rpartition("::")[2] for one in PLANTED])
def test_there_is_a_place_for_each(planted: Planted) -> None:
    text = (ROOT / planted.file).read_text(encoding="utf-8")
    assert planted.into(text) != text


def test_the_page_lists_these_errors_and_tests() -> None:
    section = PAGE.read_text(encoding="utf-8").split("\n## Errors of peers\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| `(.+?)`(?:, `(.+?)`)? \|$", section, re.MULTILINE)
    listed = [(error, test) for error, *tests in rows for test in tests if test]
    assert listed == list(dict.fromkeys((one.error, one.test) for one in PLANTED))
    assert len(rows) == 15
