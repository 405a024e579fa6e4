"""Several agents in an episode: each has its conversation, its samples and its reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from llmrl.aio import wait
from llmrl.algorithms.grpo import GRPO
from llmrl.chat import Chat
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.errors import RecipeError
from llmrl.recipe import RolloutOptions, parse
from llmrl.rewards.environment import Environment
from llmrl.rewards.repetition import Repetition
from llmrl.rollout.episode import OpenEpisode, Opponent
from llmrl.rollout.filters import Staleness, informative, lag_metrics
from llmrl.rollout.samples import to_samples, with_views
from llmrl.rollout.step_rewards import placed
from llmrl.rollout.worker import RolloutWorker
from llmrl.run_folder.records import EpisodeRecord
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.scoring.wrapped import tokens
from llmrl.tiny import make_tokenizer
from llmrl.train.metrics import rollout_metrics
from llmrl.trajectories import compact
from llmrl.types import Message, Observation, Problem, Score, Trajectory, own_policy
from tests.builders import scripted_worker, turn

CHAT = Chat(make_tokenizer())
PROBLEM = Problem(id="debate", messages=[])


@dataclass
class Debate:
    """Two agents speak in turn, two turns each; `pro` is paid 0.5 for its first, and wins 1 from `con` at the end."""

    heard: list[str] = field(default_factory=list)

    def make(self, problem: Problem) -> Debate:
        return Debate()

    async def reset(self) -> Observation:
        return Observation(messages=[{"role": "user", "content": "Begin, pro."}], agent="pro")

    async def step(self, message: Message) -> Observation:
        self.heard.append(message["content"])
        turn = len(self.heard)
        if turn == 4:
            return Observation(messages=[], reward=-1.0, rewards={"pro": 1.0}, done=True)
        shown = [{"role": "user", "content": f"They said: {self.heard[-1]}"}]
        return Observation(messages=shown, agent=("pro", "con")[turn % 2], reward=0.5 if turn == 1 else 0.0)

    async def close(self) -> None:
        pass


def engine(replies: Any) -> ScriptedEngine:
    return ScriptedEngine(
        tokenizer=CHAT.tokenizer, options=Scripted(replies=replies), stop_token_ids=[CHAT.tokenizer.eos_token_id]
    )


def worker(replies: Sequence[str] = ("aa", "b", "cc", "d"), **opponents: Opponent) -> RolloutWorker:
    options = RolloutOptions(num_generations=1, prompts_per_step=1, max_turns=8, max_completion_length=8)
    reward = as_group_reward(Environment(judged=False), GradingPool(1, 5.0))
    return replace(scripted_worker(CHAT, replies, reward, options, Debate()), opponents=opponents)


def played(**opponents: Opponent) -> Trajectory:
    (episode,) = wait(worker(("aa", "b", "cc", "d"), **opponents).run_group(PROBLEM, "0/debate"))
    return episode


def ids(text: str) -> list[int]:
    return list(CHAT.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_each_agent_reads_its_own_conversation() -> None:
    episode = played()
    assert [(turn.agent, turn.text) for turn in episode.turns] == [
        ("pro", "aa"),
        ("con", "b"),
        ("pro", "cc"),
        ("con", "d"),
    ]
    spelled = [CHAT.tokenizer.decode(turn.prompt_ids) for turn in episode.turns]
    assert spelled[0] == "<|user|>Begin, pro.<|end|><|assistant|>"
    assert spelled[1] == "<|user|>They said: aa<|end|><|assistant|>"
    assert spelled[2] == spelled[0] + "aa<|end|><|user|>They said: b<|end|><|assistant|>"
    assert spelled[3] == spelled[1] + "b<|end|><|user|>They said: cc<|end|><|assistant|>"


def test_rewards_and_samples_are_by_agent() -> None:
    """pro: 0.5 for its first turn, 1 for its last, which con's last move decided; con: -1."""
    episode = played()
    assert [turn.reward for turn in episode.turns] == [0.5, 0.0, 1.0, -1.0]
    assert (episode.earned, episode.earned_by("pro"), episode.earned_by("con")) == (0.5, 1.5, -1.0)
    pro, con = to_samples(episode)
    assert (pro.agent, pro.group, pro.played_in, pro.reward) == ("pro", "0/debate#pro", "0/debate", 1.5)
    assert (con.agent, con.group, con.reward) == ("con", "0/debate#con", -1.0)
    assert (list(pro.turn_rewards), list(con.turn_rewards)) == ([0.5, 1.0], [0.0, -1.0])
    assert pro.token_ids[pro.turn_ids == 1].tolist() == [*ids("cc"), CHAT.tokenizer.eos_token_id]
    assert con.token_ids[con.turn_ids == 0].tolist() == [*ids("b"), CHAT.tokenizer.eos_token_id]
    assert with_views(episode, [pro, con]) == compact(episode)


def test_sides_are_compared_with_their_like() -> None:
    """Two episodes: pro earned 1.5 and 0.5, con -1 and 0. Centred by side: +-0.5, and never one side with the other."""
    one = played()
    weak = [replace(turn, reward=reward) for turn, reward in zip(one.turns, (0.5, 0, 0, 0), strict=True)]
    rows = [*to_samples(one), *to_samples(replace(one, turns=weak, episode=1))]
    credited = GRPO(scale_rewards="none").credit(rows)
    assert [float(row.advantages.sum() / row.actions) for row in credited] == [0.5, -0.5, -0.5, 0.5]


def test_an_opponent_speaks_and_is_not_learned_from() -> None:
    other = engine(("no", "never"))
    episode = played(con=Opponent("runs/old/final", other))
    assert [(turn.model, turn.text) for turn in episode.turns] == [
        ("policy", "aa"),
        ("runs/old/final", "no"),
        ("policy", "b"),
        ("runs/old/final", "never"),
    ]
    assert len(other.calls) == 2
    (sample,) = to_samples(episode)
    assert (sample.agent, sample.reward, sample.actions) == ("pro", 1.5, 2 + 1 + 2)
    assert (episode.earned, episode.text) == (1.5, "b"), "what the opponent earned and said is not the policy's"


def test_an_agents_own_policy_speaks_and_is_learned_from() -> None:
    """Each by its own parameters: both have samples, and what the one wins from the other cancels in the sum."""
    episode = played(con=Opponent(own_policy("con"), engine(("no", "never"))))
    assert [turn.model for turn in episode.turns] == ["policy", "policy:con"] * 2
    assert episode == replace(played(con=Opponent("policy", engine(("no", "never")))), turns=episode.turns)
    pro, con = to_samples(episode)
    assert (pro.agent, pro.reward, con.agent, con.reward) == ("pro", 1.5, "con", -1.0)
    assert (episode.earned, episode.text, episode.agents) == (0.5, "never", ["pro", "con"])
    line = EpisodeRecord(step=0, trajectory=episode, tokens=7).to_json()
    assert [turn.get("model") for turn in line["turns"]] == [None, "policy:con"] * 2
    metrics = rollout_metrics([[episode]])
    assert (metrics["agents/pro/reward"], metrics["agents/con/reward"]) == (1.5, -1.0)
    theirs = replace(episode, turns=[replace(turn, model="policy:pro") for turn in episode.turns])
    assert theirs.agents == ["pro"], "the own policy of an agent is an opponent where it speaks for another"


def test_a_turn_that_is_cut_off_ends_the_episode_of_an_own_policy() -> None:
    """As it does the policy's: what was cut is no move, and it is to be learned from."""
    episode = played(con=Opponent(own_policy("con"), engine(("n" * 30, "n" * 30))))
    assert (episode.status, episode.truncated, len(episode.turns)) == ("max_tokens", True, 2)


def test_an_opponent_that_is_cut_off_ends_nothing() -> None:
    other = engine(("n" * 30, "n" * 30))
    episode = played(con=Opponent("frozen", other))
    assert (episode.status, episode.truncated, len(episode.turns)) == ("done", False, 4)


def test_the_log_says_who_spoke() -> None:
    episode = played(con=Opponent("frozen", engine(("no", "never"))))
    line = EpisodeRecord(step=0, trajectory=episode, tokens=7).to_json()
    assert [(turn["agent"], turn.get("model")) for turn in line["turns"]] == [
        ("pro", None),
        ("con", "frozen"),
        ("pro", None),
        ("con", "frozen"),
    ]
    assert EpisodeRecord.from_json(line).trajectory.turns == compact(episode).turns
    metrics = rollout_metrics([[episode]])
    assert (metrics["agents/pro/reward"], metrics["agents/pro/turns"]) == (1.5, 2.0)
    assert "agents/con/reward" not in metrics


def test_a_first_prompt_amid_the_episode_ends_it_where_it_has_no_room() -> None:
    """`con` is shown what `pro` said: a text of the policy's, for which the run is not to end."""

    def shown(limit: int) -> Trajectory:
        player = worker(("a" * 40, "b", "cc", "d"))
        options = replace(player.options, max_prompt_length=limit, max_completion_length=50, max_turns=4)
        (episode,) = wait(replace(player, options=options).run_group(PROBLEM, "0/debate"))
        return episode

    assert shown(30).status == "done", "there is room in the whole, if not for a first prompt of the data"

    player = replace(worker(("aa", "b")), max_model_len=16)
    (episode,) = wait(player.run_group(PROBLEM, "0/debate"))
    assert (episode.status, [turn.agent for turn in episode.turns]) == ("max_tokens", ["pro"])


RECIPE: dict[str, Any] = {
    "model": {"policy": "tiny"},
    "data": {"name": "games", "env": {"name": "nim"}},
    "env": {"name": "nim", "opponent": "agent"},
    "reward": {"name": "environment", "judged": False},
    "algorithm": {"name": "grpo"},
}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"rollout": {"opponents": {"third": {}}}},
            "third: env nim has none of that name; its agents are first, second",
        ),
        ({"rollout": {"opponents": {"first": {}, "second": {}}}}, "for all agents of env nim"),
        ({"rollout": {"opponents": {"second": {"engine": "vllm"}}}}, "a process holds one vLLM"),
        ({"rollout": {"opponents": {"first": {}}}}, "judges its player first, .* expected env.player=second"),
        ({"rollout": {"opponents": {"second": {"modle": "x"}}}}, "modle: unknown key; did you mean 'model'"),
        ({"env": {"name": "nim"}, "rollout": {"opponents": {"second": {}}}}, "a single agent plays it"),
        ({"rollout": {"opponents": {"second": {"temperature": -1}}}}, "temperature -1.0: expected at least 0, or none"),
        (
            {"source": {"name": "restarts", "at": "turn"}, "rollout": {"max_turns": 4}},
            "several agents speak in env nim",
        ),
        ({"rollout": {"opponents": {"second": {"model": "policy"}}}}, r"the policies of the run so; .* \./policy"),
        ({"rollout": {"opponents": {"second": {"model": "policy:second"}}}}, r"a path, such as \./policy:second"),
        ({"rollout": {"opponents": {"second": {"learning_rate": 1e-3}}}}, "it is frozen; expected learns: true"),
        (
            {
                "engine": {"name": "server", "urls": ["http://a:1"]},
                "rollout": {"opponents": {"second": {"engine": {"name": "server", "urls": ["http://a:1"]}}}},
            },
            r"second.engine.urls http://a:1: the server of engine.urls, whose weights change",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        parse(RECIPE | changes)


@dataclass(frozen=True)
class Talk:
    """An environment with agents of any names."""

    agents: Sequence[str]

    def make(self, problem: Problem) -> Debate:
        return Debate()


LEARNS: dict[str, Any] = {"rollout": {"opponents": {"second": {"learns": True}}}}


def talk(engine: Any = "hf", **opponents: Any) -> dict[str, Any]:
    """Sections of a recipe in which `pro` is the policy's and others are opponents'."""
    env = {"name": f"{__name__}:Talk", "agents": ["pro", *opponents]}
    return {"env": env, "engine": engine, "rollout": {"opponents": opponents}}


def server(url: str) -> dict[str, Any]:
    return {"name": "server", "urls": [url]}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rollout": {"opponents": {"second": {"learns": True, "temperature": 0}}}}, "that learns has to sample"),
        ({"rollout": {"opponents": {"second": {"learns": True, "engine": "vllm"}}}}, "a process holds one vLLM"),
        ({"rollout": {"opponents": {"first": {"learns": True}, "second": {"learns": True}}}}, "for all agents of env"),
        (
            {"algorithm": {"name": "bc"}, "source": {"name": "offline", "path": "rows.jsonl"}},
            "second.learns: source offline generates nothing",
        ),
        (
            {
                "algorithm": {"name": "grpo", "importance_sampling_correction": "token_truncate"},
                "source": {"name": "asynchronous"},
                "engine": {"name": "hf"},
            },
            "second.learns: source asynchronous generates while models learn",
        ),
        (
            {"algorithm": {"name": "archer"}, "source": {"name": "replay"}},
            "second.learns: source replay gives turns of earlier steps",
        ),
        (
            {
                "algorithm": {"name": "grpo", "importance_sampling_correction": "none"},
                "engine": {"name": "hf", "return_kept_ids": True},
                "rollout": {"top_p": 0.9, **LEARNS["rollout"]},
            },
            "second.learns: its engine has return_kept_ids: false, and the policy's true",
        ),
        (
            {"rollout": {"opponents": {"second": {"learns": True, "engine": {"name": "hf", "critic": "runs/critic"}}}}},
            "second.learns: its engine has a critic",
        ),
        (talk(critic={"learns": True}), "its model would lie in final/critic, which is no name for a folder there"),
        (talk(**{"../x": {"learns": True}}), r"its model would lie in final/\.\./x, which is no name"),
        (
            talk(server("http://a:1"), con={"learns": True, "engine": server("http://a:1")}),
            r"con.engine.urls http://a:1: the server of engine.urls, whose weights change",
        ),
        (
            talk(con={"engine": server("http://b:1")}, judge={"learns": True, "engine": server("http://b:1")}),
            r"con.engine.urls http://b:1: the server of rollout.opponents.judge.engine.urls",
        ),
    ],
)
def test_an_opponent_that_cannot_learn_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        parse(RECIPE | LEARNS | changes)


def test_opponents_that_stay_may_share_a_server() -> None:
    recipe = parse(RECIPE | talk(con={"engine": server("http://b:1")}, judge={"engine": server("http://b:1")}))
    assert recipe.rollout.opponents["con"].engine == recipe.rollout.opponents["judge"].engine


def test_the_player_that_is_judged_may_be_one_that_learns() -> None:
    recipe = parse(RECIPE | {"rollout": {"opponents": {"first": {"learns": True, "learning_rate": 1e-4}}}})
    assert recipe.rollout.opponents["first"].learning_rate == 1e-4
    assert parse(recipe.as_dict()) == recipe


def test_a_recipe_with_an_opponent_is_written_back() -> None:
    recipe = parse(RECIPE | {"rollout": {"opponents": {"second": {"model": "runs/old/final"}}}})
    assert recipe.rollout.opponents["second"].label == "runs/old/final"
    assert parse(recipe.as_dict()) == recipe
    assert cast(Any, recipe.as_dict())["rollout"]["opponents"]["second"]["engine"]["name"] == "hf"


def versions(*numbers: int) -> Trajectory:
    """The debate, `pro` by a frozen opponent, whose weights never change; `con` by these versions of the policy."""
    episode = played(pro=Opponent("frozen", engine(("aa", "cc"))))
    own = iter(numbers)
    turns = [
        turn if turn.model != "policy" else replace(turn, completion=replace(turn.completion, version=next(own)))
        for turn in episode.turns
    ]
    return replace(episode, turns=turns)


def test_an_opponent_makes_no_group_stale() -> None:
    """Its version stays 0 for the whole run; the lag is that of the policy's own turns."""
    group = [versions(9, 10)]
    assert Staleness(1).wanted(group, step=10)
    assert not Staleness(1).wanted(group, step=11)
    metrics = lag_metrics([group], step=10, bound=1)
    assert (metrics["staleness/dropped"], metrics["staleness/lag_1/frac"]) == (0.0, 1.0)
    assert EpisodeRecord(step=10, trajectory=group[0], tokens=7).to_json()["version"] == 9


def test_what_one_agent_wins_from_another_tells_episodes_apart() -> None:
    """1 and -1, or -1 and 1: both episodes earn 0 together, and each side has something to learn."""
    one = played()
    won, lost = (
        replace(one, turns=[replace(turn, reward=own) for turn, own in zip(one.turns, given, strict=True)])
        for given in ((0.0, 0.0, 1.0, -1.0), (0.0, 0.0, -1.0, 1.0))
    )
    assert informative([won, lost])
    assert not informative([won, replace(won, episode=1)])
    assert rollout_metrics([[won, lost]])["frac_reward_zero_std"] == 0.0
    assert rollout_metrics([[won, replace(won, episode=1)]])["frac_reward_zero_std"] == 1.0


def test_the_reward_of_another_agent_is_added_to_what_its_turn_has_earned() -> None:
    played = OpenEpisode(turns=[turn(agent="pro"), turn(agent="con")])
    played.turns[0] = replace(played.turns[0], reward=0.25)
    played.answer(Observation(reward=-1.0, rewards={"pro": 1.0, "judge": 9.0}))
    assert [one.reward for one in played.turns] == [1.25, -1.0]


def test_rewards_of_an_answer_read_the_policys_last() -> None:
    """The opponent repeats itself and speaks last: the policy pays nothing, and dense rewards are of `pro`'s b."""
    episode = played(con=Opponent("frozen", engine(("no", "no no no no no"))))
    (score,) = wait(Repetition(window=2).score([episode]))
    assert score.value == 0.0
    assert tokens(episode) == 2, "b and the end of the turn"
    dense = placed(episode, Score(0.0, token_rewards=[0.25, 0.5]), CHAT)
    (sample,) = to_samples(replace(episode, score=dense))
    assert sample.token_rewards.tolist()[-2:] == [0.25, 0.5]
