"""The engine `hf` against one plain forward pass of the same model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from llmrl import aio
from llmrl.chat import load_tokenizer
from llmrl.engines.hf import Hf, HfEngine
from llmrl.errors import EngineError, SyncError
from llmrl.types import Completion, Sampling
from tests.builders import some
from tests.own_settings import require_own_settings

PROMPTS = [[65, 66, 67], [70, 71, 72, 73, 74, 75], [65, 66, 67], [80]]


@pytest.fixture(scope="module", params=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tiny_model_dir: Path, untied_model_dir: Path) -> Path:
    return tiny_model_dir if request.param == "tied" else untied_model_dir


def start(folder: Path, stop: Sequence[int] = (), **options: Any) -> HfEngine:
    return Hf(**options).start(str(folder), dtype="float32", seed=5, max_model_len=64, stop_token_ids=stop)


@pytest.fixture
def engine(folder: Path) -> Iterator[HfEngine]:
    made = start(folder)
    yield made
    made.close()


def sample(engine: HfEngine, prompts: Sequence[Sequence[int]] = PROMPTS, **settings: Any) -> list[Completion]:
    """Sample a completion of each prompt, at the same time, with the seeds 0, 1, ..."""

    async def ask() -> list[Completion]:
        jobs = [engine.generate(p, Sampling(**({"seed": i} | settings))) for i, p in enumerate(prompts)]
        return await asyncio.gather(*jobs)

    return asyncio.run(ask())


def logprobs(folder: Path, prompt: list[int], said: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """(tokens, V) log-probabilities that one forward pass over the whole text gives."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    return (logits.float() / temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_are_those_of_a_forward_pass(engine: HfEngine, folder: Path, temperature: float) -> None:
    for prompt, c in zip(PROMPTS, sample(engine, temperature=temperature, max_tokens=12), strict=True):
        expected = logprobs(folder, prompt, c.token_ids, temperature)[range(12), list(c.token_ids)]
        torch.testing.assert_close(torch.tensor(c.logprobs), expected, rtol=0, atol=2e-5)
        assert (c.finish, c.semantics, len(c.token_ids)) == ("length", "scaled", 12)


def test_greedy_takes_the_likeliest_token(engine: HfEngine, folder: Path) -> None:
    for prompt, c in zip(PROMPTS, sample(engine, temperature=0.0, max_tokens=6), strict=True):
        assert list(c.token_ids) == logprobs(folder, prompt, c.token_ids).argmax(-1).tolist()


def test_top_k_leaves_k_tokens_and_renormalises(engine: HfEngine, folder: Path) -> None:
    c = sample(engine, PROMPTS[:1], top_k=3, max_tokens=12)[0]
    top = logprobs(folder, PROMPTS[0], c.token_ids).topk(3)
    assert c.semantics == "renormalised"
    for token, value, ids, numbers in zip(c.token_ids, c.logprobs, top.indices, top.values, strict=True):
        place = ids.tolist().index(token)
        assert value == pytest.approx(float(numbers[place] - numbers.logsumexp(0)), abs=2e-5)


def test_draws_follow_the_distribution(engine: HfEngine, folder: Path) -> None:
    """4,000 first tokens, each of its own seed: the share of the likelier half of the vocabulary is near its mass."""
    p = logprobs(folder, PROMPTS[0], [0], temperature=0.25)[0].exp()
    likely = set(p.topk(len(p) // 2).indices.tolist())
    mass = float(p[list(likely)].sum())
    said = sample(engine, [PROMPTS[0]] * 4000, temperature=0.25, max_tokens=1)
    share = sum(c.token_ids[0] in likely for c in said) / len(said)
    assert 0.5 < mass < 0.99
    assert share == pytest.approx(mass, abs=4 * (mass * (1 - mass) / len(said)) ** 0.5)


def test_a_completion_depends_on_its_seed_and_not_on_its_neighbours(engine: HfEngine) -> None:
    together = sample(engine, max_tokens=10)
    alone = [sample(engine, [p], seed=i, max_tokens=10)[0] for i, p in enumerate(PROMPTS)]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert together[0].token_ids != together[2].token_ids  # one prompt, two seeds


def test_without_seeds_an_engine_repeats_another_of_the_same_seed(folder: Path) -> None:
    first, second = (sample(start(folder), seed=None, max_tokens=8) for _ in range(2))
    assert first == second
    assert first[0].token_ids != first[2].token_ids


def test_each_stop_token_ends_a_completion_and_is_part_of_it(folder: Path) -> None:
    free = sample(start(folder), max_tokens=20)
    stop = [free[0].token_ids[3], free[1].token_ids[5]]
    for before, after in zip(free, sample(start(folder, stop), max_tokens=20), strict=True):
        ends = [i for i, token in enumerate(before.token_ids) if token in stop]
        assert after.token_ids == before.token_ids[: ends[0] + 1 if ends else 20]
        assert after.finish == ("stop" if ends else "length")
        assert len(after.logprobs) == len(after.token_ids)


def test_batches_are_no_larger_than_asked(folder: Path) -> None:
    small, large = start(folder, max_num_seqs=2), start(folder)
    assert [c.token_ids for c in sample(small)] == [c.token_ids for c in sample(large)]


@pytest.mark.parametrize("prompt", [[], [1] * 64])
def test_a_prompt_that_does_not_fit_is_refused(engine: HfEngine, prompt: list[int]) -> None:
    with pytest.raises(EngineError, match=f"{len(prompt)} tokens; expected at least 1 and fewer than max_model_len=64"):
        sample(engine, [prompt])


def test_a_long_prompt_gets_the_room_there_is(engine: HfEngine) -> None:
    assert [len(c.token_ids) for c in sample(engine, [[1] * 60, [1] * 10], max_tokens=9)] == [4, 9]


def test_score_in_pieces_is_the_forward_pass(folder: Path) -> None:
    engine = start(folder, logits_chunk_mb=1)
    text = [(7 * i) % 250 for i in range(1500)]  # about 1 MiB / (4 x vocabulary) = a thousand tokens a piece
    expected = logprobs(folder, text[:1], text[1:])[range(1499), text[1:]]
    found = torch.tensor(asyncio.run(engine.score(text)))
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    assert asyncio.run(engine.score([3])) == []


def test_load_changes_what_is_sampled(engine: HfEngine, folder: Path) -> None:
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_pretrained(folder)
    weights = [(name, torch.randn_like(p) * 0.1) for name, p in other.named_parameters()]
    engine.load(iter(weights), version=4)
    other.load_state_dict(dict(weights), strict=False)
    other.tie_weights()
    with torch.inference_mode():
        expected = other(torch.tensor([PROMPTS[1]])).logits[0, :-1].log_softmax(-1)[range(5), PROMPTS[1][1:]]
    torch.testing.assert_close(torch.tensor(asyncio.run(engine.score(PROMPTS[1]))), expected, rtol=0, atol=2e-5)
    assert {c.version for c in sample(engine)} == {4}


def test_requests_begun_before_a_load_are_of_the_old_weights(folder: Path) -> None:
    """Four batches: without waiting for all of them, which one gets the new weights would be a matter of timing."""
    engine = start(folder, max_num_seqs=2)

    async def begin() -> list[asyncio.Task[Completion]]:
        asked = (engine.generate(PROMPTS[0], Sampling(seed=i, max_tokens=8)) for i in range(8))
        return [asyncio.ensure_future(one) for one in asked]

    async def ended(jobs: list[asyncio.Task[Completion]]) -> list[Completion]:
        return await asyncio.gather(*jobs)

    aio.background()
    try:
        jobs = aio.wait(begin())
        engine.load(shifted(folder, 0.5), 1)
        said = aio.wait(ended(jobs))
    finally:
        aio.foreground()
        engine.close()
    assert [one.version for one in said] == [0] * 8
    for i, one in enumerate(said):
        old = logprobs(folder, list(PROMPTS[0]), one.token_ids)
        chosen = old.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(one.logprobs), chosen, rtol=0, atol=1e-4, msg=f"request {i}")


def test_load_refuses_what_does_not_fit(engine: HfEngine, folder: Path) -> None:
    weights = dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
    name = next(iter(weights))
    with pytest.raises(SyncError, match="'nose' is unknown"):
        engine.load([*weights.items(), ("nose", torch.zeros(1))], version=1)
    with pytest.raises(SyncError, match=rf"{name}: \(2,\), expected"):
        engine.load([(name, torch.zeros(2))], version=1)
    with pytest.raises(SyncError, match=f"1 weights were not given, among them {name}"):
        engine.load(list(weights.items())[1:], version=1)
    assert engine.version == 0


def test_a_failing_batch_is_an_error_for_everyone_in_it(engine: HfEngine) -> None:
    with pytest.raises(EngineError, match="IndexError"):
        sample(engine, [[10**6]])
    assert len(sample(engine)) == 4
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        sample(engine)


# Among which tokens


def shifted(folder: Path, by: float) -> list[tuple[str, torch.Tensor]]:
    """The weights, moved far enough that other tokens are probable."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    return [(name, weight + by * torch.randn_like(weight)) for name, weight in model.state_dict().items()]


def test_tokens_are_drawn_from_the_ids_that_are_returned_and_renormalised_over_them(folder: Path) -> None:
    engine = start(folder, return_kept_ids=True, min_tokens_to_keep=3)
    for prompt, c in zip(PROMPTS, sample(engine, max_tokens=10, top_p=0.1), strict=True):
        assert c.support_ids is not None
        assert (len(c.support_ids), c.semantics) == (10, "renormalised")
        whole = logprobs(folder, prompt, c.token_ids)
        for kept, token, given, row in zip(c.support_ids, c.token_ids, c.logprobs, whole, strict=True):
            assert token in kept
            assert len(kept) >= 3
            expected = row[token] - row[list(kept)].logsumexp(0)
            assert given == pytest.approx(float(expected), abs=2e-5)
    assert sample(engine, max_tokens=4)[0].support_ids is None, "nothing was left out"
    engine.close()


def test_the_tokens_that_end_are_always_kept(folder: Path) -> None:
    engine = start(folder, stop=[1], return_kept_ids=True)
    for c in some(sample(engine, max_tokens=10, top_p=0.01)):
        assert all(1 in kept and len(kept) < 9 for kept in c.support_ids or [()])
    engine.close()


def test_a_mask_policy_lags_and_its_refresh_reaches_the_sampler(folder: Path) -> None:
    engine = start(folder, return_kept_ids=True, mask_update_steps=2)
    old, new = shifted(folder, 0.0), shifted(folder, 0.3)

    def supports() -> list[tuple[int, ...]]:
        """Kept ids of the first token after each prompt, which no drawn token can change."""
        return [tuple((c.support_ids or [()])[0]) for c in sample(engine, max_tokens=3, top_p=0.3)]

    engine.load(old, version=0)
    first = supports()
    drawn = sample(engine, max_tokens=3, top_p=0.3)
    engine.load(new, version=1)
    assert supports() == first, "the mask policy has not been refreshed yet"
    assert sample(engine, max_tokens=3, top_p=0.3) != drawn, "though the policy moved"
    engine.load(new, version=2)
    refreshed = supports()
    assert refreshed != first
    plain = start(folder, return_kept_ids=True)
    plain.load(new, version=2)
    assert refreshed == [tuple((c.support_ids or [()])[0]) for c in sample(plain, max_tokens=3, top_p=0.3)]
    engine.close()
    plain.close()


def test_a_mask_policy_sees_what_was_drawn(folder: Path) -> None:
    """With equal weights its sets are the policy's own, at every token and behind any padding."""
    lagging, plain = start(folder, return_kept_ids=True, mask_update_steps=9), start(folder, return_kept_ids=True)
    settings: dict[str, Any] = {"max_tokens": 10, "top_p": 0.4, "temperature": 0.8}
    for a, b in zip(sample(lagging, **settings), sample(plain, **settings), strict=True):
        assert a.token_ids == b.token_ids
        assert a.support_ids == b.support_ids
    lagging.close()
    plain.close()


def test_kept_ids_know_top_p_alone(folder: Path) -> None:
    engine = start(folder, return_kept_ids=True)
    with pytest.raises(EngineError, match="knows top_p alone"):
        sample(engine, max_tokens=2, top_p=0.5, top_k=4)
    engine.close()
    with pytest.raises(ValueError, match="return_kept_ids: true"):
        Hf(mask_update_steps=5)


def test_a_stop_string_ends_its_row_alone(engine: HfEngine, folder: Path) -> None:
    """Rows of a batch end at the first string each, with the tokens that they have without one."""
    decode = load_tokenizer(folder).decode
    whole = sample(engine, max_tokens=24)
    stop = next(piece for token in list(whole[0].token_ids)[2:] if (piece := decode([token])).isascii())
    cut = sample(engine, max_tokens=24, stop=(stop,))
    assert cut[0].stopped_by == stop
    for before, after in zip(whole, cut, strict=True):
        ids = list(before.token_ids)
        ends = [n for n in range(len(ids) + 1) if stop in decode(ids[:n])]
        length = ends[0] if ends else len(ids)
        assert list(after.token_ids) == ids[:length]
        assert list(after.logprobs) == pytest.approx(list(before.logprobs)[:length], abs=1e-5)
        assert (after.finish, after.stopped_by) == (("stop", stop) if ends else ("length", None))


@pytest.mark.parametrize("most", [3, 64])
def test_every_request_has_its_own_settings(folder: Path, most: int) -> None:
    engine = start(folder, max_num_seqs=most)
    require_own_settings(engine)
    engine.close()
