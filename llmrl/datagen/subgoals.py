"""Sub-goals of problems of a text game, proposed by a model before the run: read, checked and written beside them.

    prompt of a problem -> model -> reply -> sub-goals, or why a proposal is none -> rows for data `jsonl`

The model is a policy's folder or any server with OpenAI's chat completions. It is asked once for each different prompt,
and never while a run trains: the rows are what the environment `subgoals` reads (`goals_column`).
Source: Words as Beacons, whose language model proposes them at the start of an episode of training.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from llmrl.aio import wait
from llmrl.answers.thoughts import after_thoughts
from llmrl.clients.chat_completions import ChatClient, ChatOptions
from llmrl.clients.retry import together
from llmrl.datafiles import json_text
from llmrl.datafiles.rows import problem_row
from llmrl.datagen.replies import replies
from llmrl.datagen.step_labels import opened
from llmrl.envs.subgoals import Goal, Subgoals, goal_fault, goal_holds
from llmrl.errors import DataError
from llmrl.games.game import TextGame
from llmrl.plugins import build, construct, name_of
from llmrl.types import Problem, Sampling

log = logging.getLogger(__name__)

PROPOSE = (
    "A game begins like this:\n\n{opening}\n\nFacts of its state, with values that they may have:\n{facts}\n\nSplit "
    "the way to the end into at most {most} sub-goals, in the order in which they are reached. Reply with a JSON list "
    'such as [{{"text": "open the door", "when": {{"fact": "value"}}}}]: what is to be done, and the facts that hold '
    "once it is done."
)
BEGINS = re.compile(r"[\[{]")
DECODER = json.JSONDecoder()
MOST_BROKEN = 100  # places that begin no JSON; behind more nothing is read, for each may take as long as the reply
DEPTH = 4  # lists and objects around a proposal
LONGEST = 4  # members of a list that a prompt names as a value
TEXT = 200  # characters of a sub-goal's text, which a hint puts into prompts
EXPERT_MOVES = 1000
COUNTS = (
    "problems",
    "prompts",
    "proposed",
    "malformed",
    "repeated",
    "at_start",
    "subgoals",
    "reached_by_expert",
    "kept",
)


@dataclass(frozen=True, kw_only=True)
class ProposalOptions:
    """Settings of sub-goals that a model proposes."""

    env: Mapping[str, Any] | str  # a text game
    data: Mapping[str, Any] | str  # its problems
    model: str | None = None  # a folder or a hub name, such as the policy's
    server: Mapping[str, Any] | None = field(default=None, hash=False)  # or a server: `url`, `model`, `cache` ...
    column: str = "subgoals"  # of `info`, for `goals_column`
    most: int = 6  # sub-goals of a problem
    walks: int = 50  # games at random from which the prompt's values of facts are
    values: int = 12  # of each fact in the prompt
    temperature: float = 0.0  # of a model; a server has its own
    max_tokens: int = 512
    seed: int = 0
    engine: Mapping[str, Any] | str = "vllm"

    def __post_init__(self) -> None:
        Subgoals(env=self.game(), goals_column=self.column)
        build("data", self.data, "data")
        if (self.model is None) == (self.server is None):
            raise ValueError("expected either a model, a folder or a hub name, or a server with its url")
        self.chat()
        for name in ("most", "walks", "values", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")

    def game(self) -> Any:
        """The game."""
        return build("env", self.env, "env")

    def chat(self) -> ChatOptions:
        """Options of the server."""
        made: ChatOptions = construct(ChatOptions, self.server or {}, "server")
        return made


@dataclass(frozen=True)
class Proposals:
    """Sub-goals of a reply in their order, and why other proposals in it are none."""

    goals: Sequence[Goal] = ()
    faults: Sequence[str] = ()  # ends of messages that name the problem
    repeated: int = 0  # left out: they would count twice


def read_goals(text: str, known: Mapping[str, Any]) -> Proposals:
    """Read the sub-goals in a reply, wherever they stand behind its thoughts.

    JSON may lie between other words, in a fence, a value a line, or in another object; of a list that was cut off what
    is whole counts. A proposal is any object with `text` or `when`.

    Args:
        known: facts of any state of the game.
    """
    goals: list[Goal] = []
    faults: list[str] = []
    repeated = 0
    for number, value in enumerate(_proposed(after_thoughts(text))):
        if fault := goal_fault(value, known) or _unwritable(value):
            faults.append(f", proposal {number}{fault}")
        elif any(value["when"] == goal["when"] for goal in goals):
            repeated += 1
        else:
            goals.append({"text": " ".join(value["text"].split()), "when": value["when"]})
    if not goals and not faults:
        faults = [f": no object with text or when in {text.strip()!r:.80}"]
    return Proposals(goals, faults, repeated)


def _proposed(text: str) -> Iterator[dict[str, Any]]:
    """Objects with `text` or `when` in the JSON of a text."""
    end = broken = 0
    while broken < MOST_BROKEN and (begins := BEGINS.search(text, end)):
        try:
            value, end = DECODER.raw_decode(text, begins.start())
        except (ValueError, RecursionError):
            end, broken = begins.end(), broken + 1
            continue
        yield from _inside(value, DEPTH)


def _inside(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and not value.keys().isdisjoint(("text", "when")):
        yield value
    elif depth and isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _inside(inner, depth - 1)


def _unwritable(goal: Goal) -> str:
    """Say why a row cannot hold a sub-goal, as `goal_fault` does."""
    if len(goal["text"]) > TEXT:
        return f": a text of {len(goal['text'])} characters; expected at most {TEXT}"
    written = json.dumps(goal)
    try:
        json_text.require_characters(json_text.parse(written, ""), written, "")
    except DataError as error:
        return str(error)
    return ""


def proposer_prompt(game: TextGame[Any], problem: Problem, facts: str, most: int) -> str:
    """The prompt in which the model reads the rules, what the game shows at a problem's start, and facts of states."""
    shown = game.shown(_begun(game, problem)).strip()
    return PROPOSE.format(opening=f"{game.rules}\n\n{shown}", facts=facts, most=most)


def values_of_facts(game: TextGame[Any], walks: int, most: int, seed: int) -> str:
    """Lines with the name of each fact and values that occur in games at random; of a set, its members.

    Facts that no short value of JSON can name, such as a board, are left out.
    """
    starts, values = game.starts(), dict[str, list[Any]]()
    for number in range(walks):
        random = Random(f"{seed}/facts/{number}")
        state, over = game.begin(starts[number % len(starts)]), False
        while not over:
            for name, fact in game.facts(state).items():
                members = sorted(fact) if isinstance(fact, frozenset | set) else [fact]
                seen = values.setdefault(name, [])
                seen += [each for each in members if _nameable(each) and each not in seen][: most - len(seen)]
            move = game.play(state, random.choice(game.actions(state)))
            state, over = move.state, move.end is not None
    return "\n".join(f"- {name}: {', '.join(map(json.dumps, seen))}" for name, seen in values.items() if seen)


def _nameable(fact: Any) -> bool:
    members = fact if isinstance(fact, list | tuple) else (fact,)
    return len(members) <= LONGEST and all(isinstance(each, str | int | float | None) for each in members)


def reached_by_expert(game: TextGame[Any], state: Any, goals: Sequence[Goal]) -> int:
    """Sub-goals that the scripted expert reaches in their order; one that it passes by may lie on another way."""
    reached, over = 0, False
    for _ in range(EXPERT_MOVES):
        facts = game.facts(state)
        while reached < len(goals) and goal_holds(goals[reached], facts):
            reached += 1
        if over or reached == len(goals):
            break
        move = game.play(state, game.best(state))
        state, over = move.state, move.end is not None
    return reached


def write_proposals(options: ProposalOptions, tasks: Path, rejected: Path) -> dict[str, int]:
    """Write the problems that have sub-goals as rows for data `jsonl`, and proposals that are none with their reason.

    Sub-goals that hold at a problem's start are left out where they come first.

    Returns:
        Counts: `problems`, `prompts`, `proposed`, `malformed`, `repeated`; of all problems `at_start`, `subgoals`,
        `reached_by_expert`; and problems `kept`.
    Raises:
        DataError: no problem has a sub-goal, one has no start, or a file cannot be written.
        RewardError, CheckpointError, EngineError: the server refuses everybody, the model or the engine does not load.
    """
    game, counts, faults = options.game(), dict.fromkeys(COUNTS, 0), list[str]()
    asked = _by_prompt(game, options)
    counts["prompts"] = len(asked)
    with opened(tasks) as file, opened(rejected) as refused:
        for alike, read in zip(asked.values(), _proposals(game, list(asked), options), strict=True):
            faults += [f"{alike[0].id}{fault}" for fault in read.faults]
            proposed = len(read.goals) + len(read.faults) + read.repeated
            _add(counts, proposed=proposed, malformed=len(read.faults), repeated=read.repeated)
            for problem in alike:
                state = _begun(game, problem)
                goals = read.goals[: options.most]
                own = _ahead(goals, game.facts(state))
                reached = reached_by_expert(game, state, own)
                _add(counts, at_start=len(goals) - len(own), subgoals=len(own), reached_by_expert=reached)
                _add(counts, problems=1, kept=int(bool(own)))
                if own:
                    file.write(json.dumps({**problem_row(problem), options.column: own}) + "\n")
        refused.writelines(json.dumps({"fault": fault}) + "\n" for fault in faults)
    if faults:
        log.warning("%d proposals are no sub-goals, the first: %s; all are in %s", len(faults), faults[0], rejected)
    if not counts["kept"]:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise DataError(f"no problem has a sub-goal: {told}; {rejected} says why; ask another model")
    return counts


def _by_prompt(game: TextGame[Any], options: ProposalOptions) -> dict[str, list[Problem]]:
    """Problems by what the model is asked."""
    facts = values_of_facts(game, options.walks, options.values, options.seed)
    if not facts:
        raise DataError(f"env {name_of('env', game)}: its states have no facts that a sub-goal could name")
    asked: dict[str, list[Problem]] = {}
    for problem in build("data", options.data, "data").problems():
        asked.setdefault(proposer_prompt(game, problem, facts, options.most), []).append(problem)
    return asked


def _proposals(game: TextGame[Any], prompts: Sequence[str], options: ProposalOptions) -> list[Proposals]:
    """Read the reply to each prompt."""
    from llmrl.evaluation.run import EvalSetup, local_player

    known = game.facts(game.begin(game.starts()[0]))
    if options.model is None:
        return wait(_served(prompts, options.chat(), known))
    sampling = Sampling(temperature=options.temperature, max_tokens=options.max_tokens, seed=options.seed)
    with local_player(options.model, EvalSetup(engine=options.engine), options.seed, options.max_tokens) as player:
        texts = wait(replies(prompts, player.engine, player.chat, sampling))
    return [read_goals(text, known) for text in texts]


async def _served(prompts: Sequence[str], chat: ChatOptions, known: Mapping[str, Any]) -> list[Proposals]:
    """Ask a server, again where a reply has no sub-goal: its cache keeps those that have."""

    def usable(text: str) -> Proposals:
        read = read_goals(text, known)
        if not read.goals:
            raise ValueError(f"no sub-goal{read.faults[0]}")
        return read

    async with ChatClient("stage subgoals", chat).connected() as connection:
        answers = await together(connection.ask([{"role": "user", "content": prompt}], usable) for prompt in prompts)
    return [answer.value or Proposals(faults=[f": {answer.failure}"]) for answer in answers]


def _begun(game: TextGame[Any], problem: Problem) -> Any:
    """The state in which a problem begins."""
    start = problem.info.get("start")
    try:
        return game.begin(str(start))
    except ValueError as error:
        raise DataError(
            f"problem {problem.id}: info.start is {start!r:.80}, which the game does not take: {error}; make problems "
            "by data: {name: games, env: ...} with the options of this env"
        ) from None


def _ahead(goals: Sequence[Goal], facts: Mapping[str, Any]) -> Sequence[Goal]:
    """Sub-goals from the first that does not hold."""
    return next((goals[number:] for number, goal in enumerate(goals) if not goal_holds(goal, facts)), ())


def _add(counts: dict[str, int], **more: int) -> None:
    for name, number in more.items():
        counts[name] += number
