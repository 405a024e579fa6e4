"""Rewards: the scores of a group of answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from llmrl.protocols import Composite
from llmrl.tiny import make_tokenizer
from llmrl.types import Completion, Finish, Problem, Score, Trajectory, Turn
from tests.felt.probe import Options, Probe

NUMERIC: Options = {"name": "numeric"}
LENGTH: Options = {"name": "length"}
THOUGHT = "<think>First I add. Wait, let me check that again.</think>\n<answer>4</answer>"


@lru_cache
def pool() -> Any:
    """Workers that grade, of all probes."""
    from llmrl.scoring.manager import GradingPool

    return GradingPool(1, 20.0)


def answers(problem: Problem, *texts: str, finish: Finish = "stop", **facts: Any) -> list[Trajectory]:
    """A group: an episode for each text, in tokens of bytes."""
    encode = make_tokenizer().encode
    group = []
    for number, text in enumerate(texts):
        ids = encode(text, add_special_tokens=False)
        said = Completion(token_ids=ids, logprobs=[-1.0] * len(ids), finish=finish, version=0)
        turn = Turn(prompt_ids=[1], completion=said, text=text)
        group.append(Trajectory(problem=problem, turns=[turn], status="done", group="g", episode=number, **facts))
    return group


def problem(answer: str = "4", question: str = "What is two and two?", **info: Any) -> Problem:
    """A problem with these columns."""
    return Problem(id="p", messages=[{"role": "user", "content": question}], answer=answer, info=info)


def scoring(group: Sequence[Trajectory], steps: Sequence[int] = (0,)) -> Callable[[Any], Any]:
    """A use: values, verdicts, parts and rewards of tokens, at these steps of a run of three."""

    def use(reward: Any) -> Any:
        if not (hasattr(reward, "score") or isinstance(reward, Composite)):
            return [_told(reward(one.problem, one.text)) for one in group]
        told = []
        for step in steps:
            pool().trainer_state.global_step, pool().trainer_state.max_steps = step, 3
            made = reward.as_group_reward(pool()) if isinstance(reward, Composite) else reward
            told.append([_told(score) for score in asyncio.run(made.score(group))])
        return told

    return use


def _told(score: Score) -> Any:
    return score.value, score.verdict, dict(score.parts), score.token_rewards, score.steps, score.answer


def calibration(deviation: float) -> str:
    """A file of the deviation of lengths, as `llmrl data heron` writes it."""
    path = Path(mkdtemp(prefix="felt-")) / "calibration.json"
    path.write_text(json.dumps({"answers": 9, "factors": {"length": {"std": deviation}}}))
    return str(path)


SUMS = answers(problem(), "2 and 2 is 4", "it is 5", "#### 4.1", "I think that 4 " * 20 + "4")
THOUGHTS = answers(problem(), THOUGHT, "4", THOUGHT.replace("4", "5"), "The answer is \\boxed{4}. " + "so it is. " * 30)
OPTIONS = problem("1", "Which?", options=["one", "two"])
WORDS = problem("", "Use words", words=["dog", "runs"], concepts=["dog", "runs"], nouns=["dog", "run"])
SAID = answers(WORDS, "The dog runs.", "dog runs dog. And on.", "The dog " + "very " * 40 + "runs.")
NUMS = problem("", nums=[25, 3, 2], target=44)
TRIES = answers(
    NUMS,
    "<answer>(25-3)*2</answer>",
    "<answer>25</answer>",
    "(25-3)*2",
    "<answer>22*2</answer>",
    "<answer>25+19</answer>",
)
SMALL = problem("", nums=[25, 3, 2], target=22)
PROBES: dict[str, list[Probe]] = {
    "reward by_source": [
        Probe(
            use=scoring(answers(problem(source="a"), "4", "55")),
            base={"sources": {"a": NUMERIC}},
            values={"sources": [{"a": LENGTH}]},
        )
    ],
    "reward choice": [
        Probe(use=scoring(answers(OPTIONS, "B", "A", "2")), base={"first_index": 0}, values={"first_index": [1]}),
        Probe(use=scoring(answers(problem("C"), "A", "The answer is D.", "C")), values={"letters": ["ABC"]}),
    ],
    "reward cosine_length": [
        Probe(
            use=scoring([*SUMS, *answers(problem(), "wrong " * 9, "4" * 80)]),
            base={"max_length": 60, "of": NUMERIC, "margin": 2},
            values={
                "of": [{"name": "exact"}],
                "exceed": [-11.0],
                "wrong_shortest": [-9.0],
                "wrong_longest": [-1.0],
                "correct_longest": [1.5],
                "correct_shortest": [3.0],
            },
        )
    ],
    "reward length_scaled": [
        Probe(use=scoring(SUMS), base={"max_length": 60, "of": NUMERIC}, values={"of": [{"name": "exact"}]})
    ],
    "reward countdown": [Probe(use=scoring([*TRIES, *answers(SMALL, "<answer>25-3</answer>")]))],
    "reward coverage": [Probe(use=scoring(SAID), values={"max_words": [0, 3]})],
    "reward degenerate": [
        Probe(
            use=scoring(
                [
                    *answers(problem(), "ab" * 30, "привет мир, how", "x" * 90, "a b"),
                    *answers(problem(), "cut", finish="length"),
                ]
            ),
            base=base,
            values={
                "of": [NUMERIC],
                "ngram": [70, 2],
                "repeated_share": [1.0],
                "foreign_share": [1.0],
                "longest_run": [50],
                "truncated": [-3.0],
                "penalty": [-2.0],
            },
        )
        for base in ({}, {"longest_run": 80, "foreign_share": 1.0, "repeated_share": 1.0})
    ],
    "reward exact": [
        Probe(
            use=scoring(
                answers(
                    problem("The cat", more=["Dog"]),
                    "the cat",
                    "The cat!",
                    "cat",
                    "Dog",
                    "So: **The cat**\n<answer>The cat</answer>",
                )
            ),
            values={"also": ["more"]},
        )
    ],
    "reward format": [Probe(use=scoring(THOUGHTS), values={"pattern": [".*4"]})],
    "reward json_schema": [
        Probe(
            use=scoring(
                answers(
                    problem(schema={"type": "object", "properties": {"a": {"type": "string", "format": "email"}}}),
                    '{"a": "no"}',
                    "[1]",
                )
            ),
            values={"schema": [{"type": "array"}]},
        )
    ],
    "reward language_consistency": [
        Probe(
            use=scoring(
                answers(
                    problem(),
                    "<think>Ich denke, also bin ich, und das ist gut.</think>The answer is four, as all know.",
                    "The answer is that of the day.",
                )
            ),
            values={"language": ["zh", "de"]},
        )
    ],
    "reward length": [Probe(use=scoring(SUMS))],
    "reward mix": [Probe(use=scoring(SUMS), base={"parts": {"numeric": 1.0}}, values={"parts": [{"numeric": 0.5}]})],
    "reward naturalness": [Probe(use=scoring(SAID), values={"stretch": [3]})],
    "reward numeric": [Probe(use=scoring(SUMS), values={"tolerance": [0.2]})],
    "reward regex": [
        Probe(
            use=scoring(answers(problem("a.b"), "A\nb", "a\nb", "x a1b x", "<answer>a1b</answer>")),
            values={"pattern": ["x.*"]},
        )
    ],
    "reward repetition": [
        Probe(
            use=scoring(answers(problem(), "abc" * 30, "nothing is said twice")),
            base={"window": 5},
            values={"penalty": [-0.5], "window": [3]},
        )
    ],
    "reward rlsp": [
        Probe(
            use=scoring(THOUGHTS, steps=(0, 2, 3)),
            base={"of": NUMERIC},
            values={"of": [{"name": "numeric", "tolerance": 9.0}], "weight": [0.6], "tau": [10.0]},
        ),
        Probe(use=scoring(THOUGHTS), base={"of": NUMERIC, "explore": "strategies"}, values={"cap": [1, 2]}),
        Probe(use=scoring(THOUGHTS), base={"of": NUMERIC, "form": "released"}, values={"penalty": [1000.0]}),
    ],
    "reward soft_overlong": [
        Probe(use=scoring(SUMS), base={"limit": 300, "cache": 290}, values={"limit": [310], "cache": [280]})
    ],
    "reward clip_delta": [
        Probe(
            use=scoring(answers(problem(), "2+2=4\n4+1=6\n6+1=7\n\nSo 7.")),
            base={"eta": 0.5},
            values={"of": [{"name": "tests.felt.scorers:steps"}]},
        )
    ],
    "reward environment": [Probe(use=scoring(answers(problem(), "4", verdict="correct")))],
    "reward heron": [
        Probe(
            use=scoring(SUMS),
            base={"factors": [{**LENGTH, "threshold": 4.0}]},
            values={"factors": [[{**LENGTH, "sign": -1, "threshold": 4.0}]]},
        ),
        Probe(
            use=scoring(SUMS),
            base={"factors": [{**LENGTH, "delta_mult": 0.5}], "calibration": calibration(4.0)},
            values={"calibration": [calibration(400.0)]},
            only=True,
        ),
    ],
    "reward open_r1": [
        Probe(
            use=scoring(THOUGHTS),
            base={
                "reward_funcs": ["cosine", "repetition_penalty", "soft_overlong_punishment"],
                "max_completion_len": 300,
                "soft_punish_cache": 290,
                "cosine_max_len": 100,
            },
            values={
                "reward_funcs": [["cosine", "length", "format"]],
                "reward_weights": [[1.0, 2.0, 3.0]],
                "soft_punish_cache": [280],
                "max_completion_len": [500],
                "repetition_max_penalty": [-2.0],
            },
        ),
        Probe(
            use=scoring(
                answers(problem(), "```python\n1\n```", "<think>\na\n</think>\n<answer>\n```c\n1\n```\n</answer>")
            ),
            base={"reward_funcs": ["code_format"]},
            values={"code_language": ["c"]},
        ),
    ],
}


def probes() -> dict[str, list[Probe]]:
    return PROBES
