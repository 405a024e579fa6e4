from __future__ import annotations

from llmrl.ops.warmup import phase


def phases(iterations: list[tuple[float | None, int]], min_rollouts: int, enough: float, most: int) -> list[str]:
    """The phase of each iteration, which then finds an explained variance and plays so many episodes."""
    said: list[str] = []
    rollouts, best = 0, None
    for explained, played in iterations:
        said.append(
            phase(
                rollouts=rollouts,
                min_rollouts=min_rollouts,
                critic_steps=said.count("critic"),
                max_critic_steps=most,
                explained_variance=best,
                enough=enough,
            )
        )
        rollouts += played
        best = explained if best is None else max(best, explained or best)
    return said


def test_collect_then_the_critic_alone_then_all() -> None:
    iterations = [(None, 16), (None, 16), (-0.2, 0), (0.1, 0), (0.35, 0), (0.4, 0)]
    assert phases(iterations, 32, 0.3, 50) == ["collect", "collect", "critic", "critic", "critic", "rl"]


def test_a_critic_that_never_explains_enough_is_not_waited_for() -> None:
    assert phases([(0.0, 8)] * 5, 0, 0.3, 3) == ["critic", "critic", "critic", "rl", "rl"]


def test_once_the_policy_learns_it_goes_on() -> None:
    assert phases([(0.5, 8), (0.0, 8), (-1.0, 8)], 0, 0.3, 50) == ["critic", "rl", "rl"]
