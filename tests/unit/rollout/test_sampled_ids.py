"""Sampled ids are fed again as they were sampled, wherever a prompt is built from a turn that was played."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.datafiles.rows import Row
from llmrl.datagen.step_labels import Labelling, label
from llmrl.engines.scripted import ScriptedEngine
from llmrl.evaluation.generators import EngineGenerator
from llmrl.evaluation.search import SearchGenerator
from llmrl.gateway.server import Gateway
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.formats import reader
from llmrl.offline.trees import tree_samples
from llmrl.plugins import build
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.policy import SearchPolicy
from llmrl.reasoning.records import node_rows
from llmrl.reasoning.searcher import Searcher
from llmrl.reasoning.tree import SearchTree
from llmrl.recipe import RolloutOptions
from llmrl.rollout.agent_worker import AgentWorker
from llmrl.rollout.cuts import LineCuts, restored, saved
from llmrl.rollout.episode import Opponent
from llmrl.rollout.middle import middle_states
from llmrl.rollout.samples import to_samples, with_views
from llmrl.rollout.search_worker import SearchWorker
from llmrl.rollout.worker import RolloutWorker
from llmrl.run_folder.records import EpisodeRecord
from llmrl.trajectories import compact, from_tree, to_tree
from llmrl.types import Message, Observation, Problem, Sampling, Score, Status, Trajectory, Turn
from tests.builders import QUESTION, Grader
from tests.merged_tokens import merged_chat, sampling_engine
from tests.unit.gateway.served import play as in_session
from tests.unit.search.worlds import TextJudge

CHAT = merged_chat()
ASKED = replace(QUESTION, info={"start": "3"})  # the number of a simulated user
REPLIES = ["the first line\nthe answer", "reasoning: so the answer", "because of the conversation", "hence the reply"]
CALLS = [
    'Let me think. <tool_call>{"name": "calculator", "arguments": {"expression": "1+1"}}</tool_call>',
    "the answer is the number",
]
OPTIONS = RolloutOptions(
    num_generations=1, max_turns=3, max_completion_length=200, max_prompt_length=500, max_reply_length=500
)


@dataclass
class Talk:
    """Answers every turn, each agent's in turn, and can be gone on from any of its states."""

    agents: Sequence[str] = ("",)
    turns: int = 0
    restores = True

    def make(self, problem: Problem) -> Talk:
        return Talk(self.agents)

    def _shown(self) -> Observation:
        shown: Message = {"role": "user", "content": f"And the next thought, number {self.turns}?"}
        return Observation(messages=[shown], agent=self.agents[self.turns % len(self.agents)])

    async def reset(self) -> Observation:
        return self._shown()

    async def restore(self, snapshot: str) -> Observation:
        self.turns = int(snapshot)
        return self._shown()

    async def step(self, message: Message) -> Observation:
        self.turns += 1
        return self._shown()

    async def snapshot(self) -> str:
        return str(self.turns)

    async def close(self) -> None:
        pass


def worker(engine: Any, env: Any, **facts: Any) -> RolloutWorker:
    given = {"options": OPTIONS, "seed": 0, "reward": Grader(lambda _: True), **facts}
    return RolloutWorker(engine=engine, chat=CHAT, env=env, **given)


def run(player: RolloutWorker) -> Trajectory:
    (episode,) = wait(player.run_group(ASKED, "g"))
    assert episode.status != "error", episode.reason
    return episode


Turns = Sequence[tuple[Sequence[int], Sequence[int]]]
"""Prompt and completion of each turn of a conversation, in tokens."""


def of(turns: Sequence[Turn]) -> Turns:
    return [(turn.prompt_ids, turn.completion.token_ids) for turn in turns]


def environment(engine: ScriptedEngine) -> list[Turns]:
    return [of(run(worker(engine, Talk())).turns)]


def agents(engine: ScriptedEngine) -> list[Turns]:
    options = replace(OPTIONS, max_turns=6)
    episode = run(worker(engine, Talk(("pro", "con")), options=options))
    return [of([turn for turn in episode.turns if turn.agent == agent]) for agent in ("pro", "con")]


def opponent(engine: ScriptedEngine) -> list[Turns]:
    options = replace(OPTIONS, max_turns=6)
    other = {"con": Opponent("other", sampling_engine(REPLIES[::-1]))}
    episode = run(worker(engine, Talk(("pro", "con")), options=options, opponents=other))
    return [of([turn for turn in episode.turns if turn.agent == agent]) for agent in ("pro", "con")]


def tools(engine: ScriptedEngine) -> list[Turns]:
    env = build("env", {"name": "tools", "tools": ["calculator"]}, "env")
    engine.options = replace(engine.options, replies=CALLS)
    episode = run(worker(engine, env))
    assert episode.metrics["tool_calls"] == 1.0
    return [of(episode.turns)]


def dialogue(engine: ScriptedEngine) -> list[Turns]:
    env = build("env", {"name": "dialogue", "simulators": ["car_buyer"], "max_turns": 3}, "env")
    return [of(run(worker(engine, env)).turns)]


def benchmark(engine: ScriptedEngine) -> list[Turns]:
    generator = EngineGenerator(engine, CHAT, env=Talk(), max_turns=3)
    return [of(wait(generator.generate(QUESTION, Sampling(max_tokens=200))).trajectory.turns)]


def restart_behind_a_line(engine: ScriptedEngine) -> list[Turns]:
    """The prefix is a part of what was sampled; the rest of the first turn goes on from it."""
    whole = replace(run(worker(engine, Talk())), score=Score(0.0, "wrong"))
    (cut,) = LineCuts(CHAT, 200, None, 0).states([whole])
    cut = restored(json.loads(json.dumps(saved(cut))))
    first, answer = of(whole.turns)[0]
    assert 0 < len(cut.prefix_ids) < len(answer)
    assert list(cut.prefix_ids) == list(answer[: len(cut.prefix_ids)])
    rest = wait(worker(engine, Talk()).run_episode(QUESTION, "r", 0, cut.prefix_ids))
    return [[(first, cut.prefix_ids), *of(rest.turns)]]


def restart_between_turns(engine: ScriptedEngine) -> list[Turns]:
    whole = run(worker(engine, Talk(), snapshots=True))
    conversations: list[Turns] = []
    for state in middle_states(whole):
        rest = wait(worker(engine, Talk(), begin=state, max_turns=2).run_episode(QUESTION, "r", 0))
        assert rest.turns, rest.reason
        conversations.append([*of(whole.turns[: state.turns]), *of(rest.turns)])
    return conversations


def chats(engine: ScriptedEngine) -> list[Turns]:
    async def work(agent: Any) -> list[Turns]:
        messages: list[Any] = [{"role": "user", "content": "the question"}]
        for _ in range(3):
            answer = (await agent.say(messages)).choices[0].message.content
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "and then?"}]
        return [of(agent.session.turns())]

    return in_session(engine, work, chat=CHAT)


def texts(engine: ScriptedEngine) -> list[Turns]:
    async def work(agent: Any) -> list[Turns]:
        prompt = "the question: "
        for _ in range(3):
            reply = await agent.client.completions.create(model="any", prompt=prompt)
            prompt += reply.choices[0].text + " and then? "
        return [of(agent.session.turns())]

    return in_session(engine, work, chat=CHAT)


def responses(engine: ScriptedEngine) -> list[Turns]:
    async def work(agent: Any) -> list[Turns]:
        given: list[Any] = [{"role": "user", "content": "the question"}]
        for _ in range(3):
            reply = await agent.client.responses.create(model="any", input=given)
            given += [*reply.output, {"role": "user", "content": "and then?"}]
        return [of(agent.session.turns())]

    return in_session(engine, work, chat=CHAT)


@dataclass(frozen=True)
class Asks:
    """A program that asks three times."""

    async def run(self, problem: Problem, base_url: str, key: str) -> tuple[Status, str]:
        import openai

        messages: list[Any] = [dict(message) for message in problem.messages]
        async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
            for _ in range(3):
                reply = await client.chat.completions.create(model="any", messages=messages)
                answer = reply.choices[0].message.content
                messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "and then?"}]
        return "done", ""


def program(engine: ScriptedEngine) -> list[Turns]:
    async def play() -> Trajectory:
        gateway = Gateway(engine, CHAT)
        player = AgentWorker(
            engine=engine,
            chat=CHAT,
            env=None,  # type: ignore[arg-type] # an agent brings its own
            reward=Grader(lambda _: True),  # type: ignore[arg-type]
            options=OPTIONS,
            seed=0,
            agent=Asks(),
            gateway=gateway,
        )
        try:
            (episode,) = await player.run_group(QUESTION, "g")
            return episode
        finally:
            await gateway.stop()

    return [of(asyncio.run(play()).turns)]


def steps(engine: ScriptedEngine) -> list[Turns]:
    """Children of a node go on from its tokens; three deep, as beams and trees do."""
    policy = SearchPolicy(engine, CHAT, Sampling(max_tokens=200))
    tree = SearchTree(QUESTION, CHAT.prompt_ids(QUESTION.messages), CHAT.text)
    node, path = tree.root, []
    for _ in range(3):
        (node,) = wait(policy.grow(tree, [node], 1, max_tokens=4))
        path.append((engine.calls[-1][0], node.completion.token_ids))
    assert tree.trajectory(node).turns[0].completion.token_ids == tree.answer_ids(node)
    return [path]


def revisions(engine: ScriptedEngine) -> list[Turns]:
    policy = SearchPolicy(engine, CHAT, Sampling(max_tokens=200))
    tree = SearchTree(QUESTION, CHAT.prompt_ids(QUESTION.messages), CHAT.text)
    (node,) = wait(policy.answers(tree, 1))
    (node,) = wait(policy.refine(tree, node, 1, [{"role": "user", "content": "and the next thought?"}]))
    return [of(tree.trajectory(node).turns)]


def searching() -> Searcher:
    return Searcher(
        engine=sampling_engine(REPLIES),
        chat=CHAT,
        strategy=build("search", {"name": "refine", "rounds": 1}, "search"),
        judge=AnswerJudge(TextJudge(lambda text: float(REPLIES.index(text)))),
    )


def searched_run(engine: ScriptedEngine) -> list[Turns]:
    searcher = replace(searching(), engine=engine)
    player = SearchWorker(
        engine=engine,
        chat=CHAT,
        env=build("env", "single_turn", "env"),
        reward=Grader(lambda _: True),  # type: ignore[arg-type]
        options=replace(OPTIONS, max_turns=1),
        seed=0,
        strategy=searcher.strategy,
        judge=searcher.judge,
    )
    return [of(run(player).turns)]


def searched_answer(engine: ScriptedEngine) -> list[Turns]:
    """As `llmrl eval --search` and `llmrl serve --search` answer."""
    generator = SearchGenerator(replace(searching(), engine=engine))
    return [of(wait(generator.generate(QUESTION, Sampling(max_tokens=200))).trajectory.turns)]


def labelled_steps(engine: ScriptedEngine) -> list[Turns]:
    """Completions behind the first line of a solution, for labels of its steps."""
    options = Labelling(completions=2, sampling=Sampling(max_tokens=200))
    wait(label(QUESTION, 0, EngineGenerator(engine, CHAT), Grader(lambda _: True), options))  # type: ignore[arg-type]
    prompt, *behind = [ids for ids, _ in engine.calls]
    assert len(behind) == 2
    said = ScriptedEngine._reply_ids(sampling_engine(REPLIES), [], Sampling())
    line = next(end for end in CHAT.line_ends(said))
    return [[(prompt, said[:line]), (ids, ())] for ids in behind]


PATHS: list[Callable[[ScriptedEngine], list[Turns]]] = [
    environment,
    agents,
    opponent,
    tools,
    dialogue,
    benchmark,
    restart_behind_a_line,
    restart_between_turns,
    chats,
    texts,
    responses,
    program,
    steps,
    revisions,
    searched_run,
    searched_answer,
    labelled_steps,
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_the_next_prompt_begins_with_what_was_sampled(path: Callable[[ScriptedEngine], list[Turns]]) -> None:
    engine = sampling_engine(REPLIES)
    for conversation in path(engine):
        assert len(conversation) >= 2
        for (prompt, sampled), (after, _) in pairwise(conversation):
            fed = [*prompt, *sampled]
            assert list(after[: len(fed)]) == fed
            text = CHAT.tokenizer.decode(list(sampled))
            assert CHAT.tokenizer.encode(text, add_special_tokens=False) != list(sampled), "the usual encoding"


def test_turns_of_a_stored_conversation_extend_each_other() -> None:
    """No tokens were stored: those of the texts are fed again as they were first written."""
    said = [("user", "the question"), ("assistant", " the first line\n"), ("user", "and?"), ("assistant", " hence")] * 2
    row = Row({"messages": [{"role": role, "content": text} for role, text in said]}, "r:1", 0)
    (sample,) = AnswerEncoder(CHAT, OPTIONS).samples(reader("messages")(row), "g")
    usual = [CHAT.tokenizer.encode(text, add_special_tokens=False) for role, text in said if role == "assistant"]
    end = CHAT.tokenizer.eos_token_id
    assert sample.token_ids[sample.action_mask].tolist() == [token for ids in usual for token in (*ids, end)]


def played() -> Trajectory:
    return run(worker(sampling_engine(REPLIES), Talk()))


def logged(episode: Trajectory) -> Trajectory:
    """Through `rollouts.jsonl`, as the source offline reads it."""
    tokens = sum(len(turn.completion.token_ids) for turn in episode.turns)
    line = json.loads(json.dumps(EpisodeRecord(step=0, trajectory=episode, tokens=tokens).to_json()))
    return AnswerEncoder(CHAT, OPTIONS).in_tokens(EpisodeRecord.from_json(line))


def in_a_checkpoint(episode: Trajectory) -> Trajectory:
    return from_tree(json.loads(json.dumps(to_tree(compact(episode)), default=list)), episode.problem)


def beside_its_samples(episode: Trajectory) -> Trajectory:
    return with_views(episode, to_samples(episode))


@pytest.mark.parametrize("kept", [logged, in_a_checkpoint, beside_its_samples], ids=lambda kept: kept.__name__)
def test_an_episode_that_was_kept_has_the_tokens_that_were_sampled(kept: Callable[[Trajectory], Trajectory]) -> None:
    episode = played()
    assert [(list(a), list(b)) for a, b in of(kept(episode).turns)] == [
        (list(a), list(b)) for a, b in of(episode.turns)
    ]
    (sample,), (again,) = to_samples(episode), to_samples(kept(episode))
    sampled = [token for _, ids in of(episode.turns) for token in ids]
    for made in (sample, again):
        assert made.token_ids[made.action_mask].tolist() == sampled


def test_an_answer_of_a_tree_in_a_file_has_the_tokens_that_were_sampled() -> None:
    found = wait(searching().play(QUESTION, Sampling(max_tokens=200)))
    rows = [json.loads(json.dumps(row)) | {"outcome": "correct"} for row in node_rows(found.tree, "t")]
    placed = [Row(row, f"t:{n}", n) for n, row in enumerate(rows)]
    samples = tree_samples(AnswerEncoder(CHAT, OPTIONS), placed, "g")
    answers = [of(found.tree.trajectory(leaf).turns) for leaf in found.tree.leaves()]
    assert len(answers) == 2
    for sample, turns in zip(samples, answers, strict=True):
        assert sample.token_ids[sample.action_mask].tolist() == [token for _, ids in turns for token in ids]


def test_a_stored_step_has_the_tokens_that_were_sampled() -> None:
    """A pair of steps with its tokens, as searches write it."""
    tokens = sampling_engine(REPLIES)
    prefix, step, other = (
        tokens.tokenizer.encode(text) for text in ("the first line\n", "the answer\n", "the reply\n")
    )
    row = {"prompt": "the question", "prefix": "the first line\n", "chosen": "the answer\n", "rejected": "the reply\n"}
    asked = CHAT.prompt_ids([{"role": "user", "content": "the question"}])
    values = row | {
        "prompt": "the question",
        "prefix_ids": [*asked, *prefix],
        "chosen_ids": step,
        "rejected_ids": other,
    }
    made = AnswerEncoder(CHAT, OPTIONS).samples(reader("step_pair")(Row(values, "r:1", 0)), "g")
    assert [sample.token_ids.tolist() for sample in made] == [[*asked, *prefix, *ids] for ids in (step, other)]
