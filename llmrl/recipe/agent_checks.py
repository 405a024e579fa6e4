"""Checks of recipes whose environment has several agents: who speaks for each, and who learns from it."""

from __future__ import annotations

import re

from llmrl.plugins import name_of
from llmrl.protocols import Modelled
from llmrl.recipe.options import OpponentOptions, Sections

FOLDERS = frozenset({"adapter", "critic"})
"""Folders in `final/` that an agent may not be called after, beside the algorithm's models."""


def several_agents(recipe: Sections) -> str | None:
    """Opponents speak for agents of the environment, and leave at least one to the policy."""
    agents, opponents = getattr(recipe.env, "agents", None) or (), recipe.rollout.opponents
    env = f"env {name_of('env', recipe.env)}"
    if unknown := sorted(opponents.keys() - set(agents)):
        known = f"its agents are {', '.join(agents)}" if agents else "a single agent plays it as it is set here"
        return f"rollout.opponents {', '.join(unknown)}: {env} has none of that name; {known}"
    if agents and set(agents) == opponents.keys():
        return f"rollout.opponents: they speak for all agents of {env}, and the policy for none; leave one out"
    if agents and recipe.rollout.search is not None:
        return f"rollout.search with {env}: a search answers once, and its agents take turns; leave one out"
    judged = getattr(recipe.env, "player", "")
    if judged in opponents and not opponents[judged].learns:
        (side, *_) = sorted(set(agents) - opponents.keys())
        return f"rollout.opponents.{judged}: {env} judges its player {judged}, an opponent; expected env.player={side}"
    for agent, opponent in opponents.items():
        if name_of("engine", opponent.engine) == "vllm":
            return (
                f"rollout.opponents.{agent}.engine vllm: a process holds one vLLM, which is the policy's; expected "
                "engine hf, or server"
            )
    return _shared_servers(recipe)


def learning_opponents(recipe: Sections) -> str | None:
    """An opponent learns from what its own model has just sampled, into a folder of its own in `final/`."""
    for agent, opponent in recipe.rollout.opponents.items():
        if not opponent.learns:
            continue
        complaint = _source(recipe) or _engine(recipe, opponent) or _folder(recipe, agent)
        if complaint is not None:
            return f"rollout.opponents.{agent}.learns: {complaint}"
    return None


def _shared_servers(recipe: Sections) -> str | None:
    """A server holds one model: where the weights of one that learns are sent, no other speaks."""
    used = {url.rstrip("/"): "engine" for url in getattr(recipe.engine, "urls", ())}
    opponents = recipe.rollout.opponents.items()
    for agent, opponent in sorted(opponents, key=lambda pair: not pair[1].learns):  # frozen ones may share
        place = f"rollout.opponents.{agent}.engine"
        for url in (url.rstrip("/") for url in getattr(opponent.engine, "urls", ())):
            if url in used:
                return f"{place}.urls {url}: the server of {used[url]}.urls, whose weights change; expected another"
            used |= {url: place} if opponent.learns else {}
    return None


def _source(recipe: Sections) -> str | None:
    name = name_of("source", recipe.source)
    if not recipe.source.plays:
        return f"source {name} generates nothing that it could learn from; expected source.name=online"
    if getattr(recipe.source, "overlaps", False):
        return f"source {name} generates while models learn, which one policy alone can; expected source.name=online"
    if getattr(recipe.source, "replays", False):
        return f"source {name} gives turns of earlier steps to one policy alone; expected source.name=online"
    return None


def _engine(recipe: Sections, opponent: OpponentOptions) -> str | None:
    """Its engine samples as the policy's does: the algorithm is the same."""
    if getattr(opponent.engine, "critic", None) is not None:
        return "its engine has a critic, which moves what it samples away from its model; expected engine.critic: null"
    kept, wanted = (getattr(engine, "return_kept_ids", False) for engine in (opponent.engine, recipe.engine))
    if kept != wanted:
        return (
            f"its engine has return_kept_ids: {str(kept).lower()}, and the policy's {str(wanted).lower()}; expected "
            "the same"
        )
    return None


def _folder(recipe: Sections, agent: str) -> str | None:
    models = recipe.algorithm.models() if isinstance(recipe.algorithm, Modelled) else {}
    if re.fullmatch(r"\w[\w-]*", agent) and agent not in FOLDERS | models.keys():
        return None
    return (
        f"its model would lie in final/{agent}, which is no name for a folder there; expected an agent's name of "
        f"letters, digits, _ and -, and none of {', '.join(sorted(FOLDERS | models.keys()))}"
    )
