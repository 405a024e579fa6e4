"""Builders that many tests share: samples, turns and episodes, and workers whose engine answers from a script.

Samples are made from lists and in float64, so that numbers worked by hand stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import Batch, collate
from llmrl.chat import Chat
from llmrl.columns import COLUMNS
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.envs.single_turn import SingleTurn
from llmrl.protocols import Algorithm, Forward, Loss
from llmrl.recipe import RolloutOptions
from llmrl.rollout.context import Groups, SourceContext
from llmrl.rollout.worker import RolloutWorker
from llmrl.samples import Sample, support
from llmrl.types import Completion, Finish, Problem, Score, Trajectory, Turn

if TYPE_CHECKING:
    from llmrl.train.learners import Learners

T = TypeVar("T")
Gather = Callable[[Groups], Groups]

QUESTION = Problem(id="p", messages=[{"role": "user", "content": "2+2?"}], answer="4")
SUMS = [Problem(id=f"p{i}", messages=[{"role": "user", "content": f"{i}+1="}], answer=str(i + 1)) for i in range(7)]
"""Seven problems, p0 to p6."""


def sample(**given: Any) -> Sample:
    """A sample of facts and columns by name, in float64.

    Args:
        action_mask: True where the policy chose the token; overrules `turn_ids`, whose turn is 0 where they are absent.
        support_ids: a list of ids for each token.
    """
    facts: dict[str, Any] = {"group": "g", "episode": 0, "reward": 0.0, "dtype": np.float64}
    columns: dict[str, Any] = {"sampled_logprobs": [0.0] * len(given["token_ids"])}
    mask = given.pop("action_mask", None)
    if mask is not None:
        turns = given.get("turn_ids", [0] * len(mask))
        given["turn_ids"] = [turn if on else -1 for turn, on in zip(turns, mask, strict=True)]
    if given.get("support_ids") is not None:
        given["support_ids"], columns["support_counts"] = support(given["support_ids"])
    for name, value in given.items():
        (columns if name in COLUMNS else facts)[name] = value
    return Sample(**facts, columns={name: column for name, column in columns.items() if column is not None})


def row(group: str = "g", episode: int = 0, reward: float = 0.0, actions: int = 2, **columns: Any) -> Sample:
    """A prompt token, then actions whose sampled log-probability is -1; another `action_mask` sets its own length."""
    mask = [bool(on) for on in columns.pop("action_mask", [False] + [True] * actions)]
    turns = 1 + max([0, *(int(turn) for turn in columns.get("turn_ids", ()))])
    given = {"turn_rewards": [0.0] * turns, "sampled_logprobs": [-1.0 if on else 0.0 for on in mask]} | columns
    return sample(group=group, episode=episode, reward=reward, token_ids=[0] * len(mask), action_mask=mask, **given)


def some(items: Iterable[T]) -> list[T]:
    """The items, which are any: a test that asserts in a loop over none proves nothing."""
    found = list(items)
    assert found, "nothing to look at"
    return found


def changed(row: Sample, **changes: Any) -> Sample:
    """A copy with other facts, and columns as they are given; None takes a column away."""
    if changes.get("support_ids") is not None:
        changes["support_ids"], changes["support_counts"] = support(changes["support_ids"])
    columns = {name: changes.pop(name) for name in changes.keys() & COLUMNS.keys()}
    return replace(row, **changes).with_columns(**columns)


def actions_of(column: Any, mask: Any) -> list[float]:
    """The entries of a column that stand at action tokens."""
    numbers: list[float] = np.asarray(column)[np.asarray(mask)].tolist()
    return numbers


def turn(
    text: str = "",
    ids: Sequence[int] = (1,),
    *,
    prompt: Sequence[int] = (),
    logprobs: Sequence[float] | None = None,
    finish: Finish = "stop",
    version: int = 0,
    versions: Sequence[int] | None = None,
    **facts: Any,
) -> Turn:
    """A turn of a model.

    Args:
        ids: the completion's tokens.
        logprobs: theirs; 0 for each where absent.
        facts: other fields of `Turn`.
    """
    given = [0.0] * len(ids) if logprobs is None else logprobs
    completion = Completion(token_ids=ids, logprobs=given, finish=finish, version=version, versions=versions)
    return Turn(prompt_ids=prompt, completion=completion, text=text, **facts)


def told(algorithm: Algorithm, rows: list[Sample], *logprobs: list[float]) -> tuple[float, Batch, Loss, Tensor]:
    """The objective for rows of these log-probabilities, with batch, loss and gradient, in the order of credit."""
    batch = collate(algorithm.credit(rows), pack=True, dtype=torch.float64)
    new = torch.tensor([[x for line in logprobs for x in (0.0, *line)]], dtype=torch.float64, requires_grad=True)
    loss = algorithm.updates(0)[0].loss(Forward(logprobs=new), batch)
    total = (loss.terms * batch.weights).sum()
    return float(total.detach()), batch, loss, torch.autograd.grad(total, new)[0][0]


def episode(*turns: Turn | str, problem: Problem = QUESTION, **facts: Any) -> Trajectory:
    """An episode that is done, unless told otherwise; a text is a turn of one token."""
    made = [turn(one) if isinstance(one, str) else one for one in turns]
    return Trajectory(problem=problem, turns=made, **{"status": "done"} | facts)


def episodes(*texts: str, problem: Problem = QUESTION, group: str = "g") -> list[Trajectory]:
    """A group: an episode of one turn for each text."""
    return [episode(text, problem=problem, group=group, episode=i) for i, text in enumerate(texts)]


@dataclass
class Grader:
    """A group reward: correct and 1 where `right` holds of an episode, otherwise wrong and 0."""

    right: Callable[[Trajectory], bool]

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(1.0, "correct") if self.right(one) else Score(0.0, "wrong") for one in group]

    def latencies(self) -> dict[str, list[float]]:
        return {}


def scripted_worker(
    chat: Chat, replies: Any, reward: Any, options: RolloutOptions, env: Any = None, concurrent: bool = False
) -> RolloutWorker:
    """A real worker, whose engine answers by `replies`; its environment has a single turn unless one is given."""
    engine = ScriptedEngine(
        tokenizer=chat.tokenizer,
        options=Scripted(replies=replies, concurrent=concurrent),
        stop_token_ids=[chat.tokenizer.eos_token_id],
    )
    return RolloutWorker(engine=engine, chat=chat, env=env or SingleTurn(), reward=reward, options=options, seed=0)


def source_context(
    player: Any,
    problems: Sequence[Problem],
    options: RolloutOptions,
    *,
    seed: int = 0,
    rank: tuple[int, int] = (0, 1),
    gather: Gather = lambda groups: groups,
) -> SourceContext:
    """A context whose chat is the worker's, where it has one."""
    chat = getattr(player, "chat", None) or Chat(None)
    return SourceContext(
        chat=chat, options=options, seed=seed, rank=rank, gather=gather, problems=problems, worker=player
    )


def watched(models: Learners, name: str = "policy") -> list[list[Tensor]]:
    """Gradients with which the optimiser of a model steps, step by step."""
    seen: list[list[Tensor]] = []
    net, optimizer = models[name].net, models[name].optimizer.optimizer
    optimizer.register_step_pre_hook(
        lambda *_: seen.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    )
    return seen


def on_ranks(ranks: int, run: Callable[[tuple[int, int], Gather], T]) -> list[T]:
    """The result of `run` for each (rank, ranks): ranks are threads, and `gather` exchanges like a process group."""
    shares: list[Groups] = [[] for _ in range(ranks)]
    barrier = threading.Barrier(ranks, timeout=30)

    def rank(number: int) -> T:
        def gather(groups: Groups) -> Groups:
            shares[number] = groups
            barrier.wait()
            whole = [group for share in shares for group in share]
            barrier.wait()
            return whole

        return run((number, ranks), gather)

    with ThreadPoolExecutor(ranks) as threads:
        return list(threads.map(rank, range(ranks)))
