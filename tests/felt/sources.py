"""Sources: the rows of a few steps, and what is drawn for the next ones; the engine answers by a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from llmrl import aio
from llmrl.chat import Chat
from llmrl.envs.maze import MazeGame
from llmrl.offline.source import rows_id
from llmrl.offline.stored_columns import ColumnCard, write
from llmrl.recipe import RolloutOptions
from llmrl.rollout.context import SourceContext
from llmrl.run_folder.writer import Logs
from llmrl.sources.offline import Offline
from llmrl.sources.online import Online
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Sampling
from tests.builders import SUMS, Grader, scripted_worker, source_context
from tests.felt.data import written
from tests.felt.probe import Options, Probe, Values

OPTIONS = RolloutOptions(prompts_per_step=4, num_generations=2, max_completion_length=24, max_turns=4)
EVEN = Grader(lambda one: one.text.count("x") % 2 == 0)
MOVES = ("move left", "move right", "move up", "move down", "stay")
WINDOW: Options = {"name": "pass_rate_window", "low": 0.4, "high": 0.6}
ONLINE: Options = {"max_refills": [0], "curriculum": [WINDOW]}


def lines(_prompt: str, sampling: Sampling) -> str:
    """Three lines, whose letters x the seed decides."""
    return "ab\nc" + "x" * ((sampling.seed or 0) % 4) + "\ndone"


def walks(_prompt: str, sampling: Sampling) -> str:
    """A move in a maze that the seed decides."""
    return MOVES[(sampling.seed or 0) % len(MOVES)]


@lru_cache
def chat() -> Chat:
    """A chat of bytes."""
    return Chat(make_tokenizer())


def context(env: Any = None, problems: Sequence[Problem] = SUMS) -> SourceContext:
    """Surroundings of a source: a real worker, and a folder of its own."""
    worker = scripted_worker(chat(), lines if env is None else walks, EVEN, OPTIONS, env)
    return replace(source_context(worker, problems, OPTIONS), folder=Path(mkdtemp(prefix="felt-")))


def mazes() -> SourceContext:
    """The same in four mazes, where an episode has several turns."""
    env = MazeGame(instructions=False)
    starts = env.starts()[:4]
    return context(env, [Problem(id=f"m/{one}", messages=[], info={"start": one}) for one in starts])


def taken(make: Callable[[], SourceContext] = context, steps: int = 3) -> Callable[[Any], Any]:
    """A use: rows, metrics and state of some steps."""

    def use(factory: Any) -> Any:
        source = factory.start(make())
        told: list[Any] = []
        try:
            for step in range(steps):
                told += [source.next(step), _counts(source.metrics), source.state()]
        finally:
            getattr(source, "close", lambda: None)()
            aio.foreground()
        return told

    return use


def _counts(metrics: Mapping[str, Any]) -> Any:
    return {name: value for name, value in metrics.items() if "time" not in name}


def answers(count: int = 40, **more: Any) -> list[dict[str, Any]]:
    """Rows of a stored answer each; its label and its reward are two returns of it, by the format."""
    return [
        {"prompt": f"{i}+1=", "completion": str(i + 1), "reward": i / count, "label": 1 - i / count, **more}
        for i in range(count)
    ]


def rollouts() -> str:
    """The file of another run's episodes."""
    folder = Path(mkdtemp(prefix="felt-"))
    source = Online().start(replace(context(), seed=5))
    source.next(0)
    Logs(folder, writes=True, share=1.0).rollouts(0, source.played, [])
    return str(folder / "rollouts.jsonl")


def columns(factory: Any) -> str:
    """A folder in which every token of the rows has a stored log-probability."""
    folder = Path(mkdtemp(prefix="felt-")) / "columns"
    source = factory.start(context())
    rows = [
        (number, [one.assign(ref_logprobs=[-0.5] * len(one.token_ids)) for one in some])
        for number, some in sorted(source.epoch(), key=lambda unit: unit[0])
    ]
    write(folder, [ColumnCard(column="ref_logprobs", fingerprint="m", rows=rows_id(source.data))], rows)
    return str(folder)


def probes() -> dict[str, list[Probe]]:
    return _playing() | _stored() | _remembering()


def _playing() -> dict[str, list[Probe]]:
    ahead: Options = {"max_staleness": 1}
    several: Options = {"max_inflight_tasks": [1], "max_staleness": [2]}
    restarts: Options = {"share": 0.5, "decay_steps": 12}
    begun: Values = {
        "rollouts": [rollouts()],
        "at": ["turn"],
        "max_snapshots": [2],
        "max_continuation_length": [3],
    }
    return {
        "source online": [Probe(use=taken(), base={"dynamic_sampling": True}, values=ONLINE)],
        "source asynchronous": [
            Probe(use=taken(), base={**ahead, "dynamic_sampling": True}, values={**ONLINE, **several})
        ],
        "source restarts": [
            Probe(use=taken(), base={**restarts, **ahead, "dynamic_sampling": True}, values={**ONLINE, **several}),
            Probe(use=taken(), base=restarts, values=begun),
            Probe(use=taken(mazes), base={**restarts, "at": "turn"}, values={"max_new_turns": [1]}, only=True),
        ],
    }


def _stored() -> dict[str, list[Probe]]:
    path, other = written(*answers()), written(*answers(39))
    broken = {"path": written(*answers(), {"prompt": 3})}
    offline: Options = {"path": [other], "format": ["completion"], "shuffle_window": [3]}
    returns: Options = {"quantiles": [[0.5]], "control": ["{bucket}!"], "drop": [0.5], "min_rows": []}
    kept = {"columns": [columns(Offline(path=path))]}
    one, two = ({"name": "offline", "path": each} for each in (path, other))
    return {
        "source offline": [
            Probe(use=taken(steps=11), base={"path": path}, values={**offline, **kept}),
            Probe(use=taken(steps=11), base=broken, values={"max_bad_rows": [1]}, only=True, refusals=True),
        ],
        "source returns": [
            Probe(use=taken(steps=11), base={"path": path, "min_rows": 1}, values={**offline, **returns}),
            Probe(
                use=taken(steps=11),
                base={**broken, "min_rows": 1},
                values={"max_bad_rows": [1]},
                only=True,
                refusals=True,
            ),
            Probe(use=taken(), base={"path": path, "min_rows": 1}, values={"min_rows": [15]}, only=True, refusals=True),
        ],
        "source rehearsal": [
            Probe(
                use=taken(),
                base={"of": one, "replay": two},
                values={"of": [two], "replay": [one], "share": [0.5]},
            )
        ],
    }


def _remembering() -> dict[str, list[Probe]]:
    again: Options = {"of": {"name": "online", "dynamic_sampling": True}, "turns": 6, "proposals": 5, "capacity": 30}
    changed: Values = {
        "of": [{"name": "online"}],
        "capacity": [8],
        "turns": [3],
        "proposals": [2],
        "quantile": [0.9],
        "earlier": [[rollouts()]],
    }
    return {
        "source replay": [
            Probe(use=taken(), base=again, values=changed),
            Probe(
                use=taken(steps=5),
                base={**again, "of": {"name": "online"}, "quantile": 0.5, "turns": 60, "capacity": 100},
                values={"quantile_of": ["prompt"]},
                only=True,
            ),
        ]
    }
