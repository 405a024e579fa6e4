from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmrl.ops.logprobs import Kept, kept_logprobs, peak_logprobs, pieces, predicting, token_logprobs


class Sizes(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned, in bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0
        self.sizes: list[int] = []

    def large(self, size: int) -> int:
        """Number of tensors of a size that were made, views aside."""
        return sum(found == size for found in self.sizes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.largest = max(self.largest, leaf.numel() * leaf.element_size())
                if func._schema.returns[0].alias_info is None:
                    self.sizes.append(leaf.numel() * leaf.element_size())
        return out


def plain(hidden: Tensor, head: nn.Module, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logprobs = torch.log_softmax(head(hidden) / temperature, dim=-1)
    return logprobs[torch.arange(len(targets)), targets], -(logprobs.exp() * logprobs).sum(-1)


@pytest.mark.parametrize("chunks", [None, 1, 3, 20])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_pieces_change_neither_the_numbers_nor_their_gradients(chunks: int | None, temperature: float) -> None:
    torch.manual_seed(0)
    head = nn.Linear(5, 7).double()
    hidden = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (11,))
    mixture = torch.randn(2, 11, dtype=torch.float64)
    inputs = [hidden, *head.parameters()]

    want = plain(hidden, head, targets, temperature)
    got = token_logprobs(hidden, head, targets, temperature, entropy_grad=True, chunks=chunks)

    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad((torch.stack(want) * mixture).sum(), inputs)
    for ours, theirs in zip(torch.autograd.grad((torch.stack(got) * mixture).sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunks", [1, 3, 20])
def test_the_likeliest_token_and_a_second_one(chunks: int) -> None:
    torch.manual_seed(0)
    head = nn.Linear(5, 7).double()
    hidden = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets, others = torch.randint(7, (2, 11))
    spread = torch.log_softmax(head(hidden) / 0.7, dim=-1)
    want = [*plain(hidden, head, targets, 0.7), spread.amax(-1), spread[torch.arange(11), others]]
    chosen, entropy, peak, ids, second = peak_logprobs(hidden, head, targets, others, 0.7, chunks=chunks)
    got = [chosen, entropy, peak, second]
    assert ids.tolist() == spread.argmax(-1).tolist()
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for i in (0, 2, 3):
        ours, theirs = (torch.autograd.grad(of[i].square().sum(), hidden, retain_graph=True)[0] for of in (got, want))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_peaks_are_computed_in_pieces_too() -> None:
    rows, width, vocabulary = 512, 8, 4096
    head = nn.Linear(width, vocabulary, bias=False)
    hidden = torch.randn(rows, width, requires_grad=True)
    targets, others = torch.randint(vocabulary, (2, rows))
    with Sizes() as sizes:
        outputs = peak_logprobs(hidden, head, targets, others, chunks=8)
        (outputs[0] - outputs[2] + outputs[4]).sum().backward()
    assert sizes.largest <= rows * vocabulary * 4 / 8


def test_entropy_has_no_gradient_unless_asked() -> None:
    head = nn.Linear(3, 4)
    hidden = torch.randn(2, 3, requires_grad=True)
    targets = torch.tensor([0, 1])
    assert not token_logprobs(hidden, head, targets)[1].requires_grad
    assert token_logprobs(hidden, head, targets, entropy_grad=True)[1].requires_grad


def test_entropy_and_semantics_worked_by_hand() -> None:
    # softmax(2, 1, 0, -1) = (.6439, .2369, .0871, .0321); entropy = logsumexp - sum(p z).
    hidden = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    logprobs, entropy = token_logprobs(hidden, nn.Identity(), torch.tensor([0]))
    assert entropy.item() == pytest.approx(0.9475369639754255, abs=1e-12)
    assert logprobs.item() == pytest.approx(-0.44018969856119533, abs=1e-12)
    # At temperature 0.6 the same token has another probability: recording the one for the other is a ratio of 1.26.
    cool, _ = token_logprobs(hidden, nn.Identity(), torch.tensor([0]), temperature=0.6)
    assert cool.item() == pytest.approx(-0.20806040496530195, abs=1e-12)
    assert (cool - logprobs).exp().item() == pytest.approx(1.2612827940743405, abs=1e-12)


def test_a_token_that_the_model_rules_out_spoils_nothing() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    logprobs, entropy = token_logprobs(logits, nn.Identity(), torch.tensor([1]), entropy_grad=True)
    assert entropy.item() == pytest.approx(0.6931472)
    (logprobs + entropy).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_all_logits_are_never_in_memory() -> None:
    rows, width, vocabulary, chunk_mb = 512, 8, 4096, 1.0
    head = nn.Linear(width, vocabulary, bias=False)
    hidden = torch.randn(rows, width, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,))
    assert pieces(rows, vocabulary, chunk_mb) == 8
    with Sizes() as sizes:
        token_logprobs(hidden, head, targets, 0.7, chunk_mb, entropy_grad=True)[0].sum().backward()
    assert sizes.largest <= chunk_mb * 2**20
    with Sizes() as sizes:
        plain(hidden, head, targets, 0.7)[0].sum().backward()
    assert sizes.largest == rows * vocabulary * 4  # what it would be otherwise


def test_the_backward_pass_finds_no_logits_kept_for_it_but_the_last() -> None:
    # Pieces alone would not do: each keeps its log-softmax until the backward pass, all of them at once.
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    rows, width, vocabulary = 64, 8, 4096
    head = nn.Linear(width, vocabulary, bias=False)
    hidden = torch.randn(rows, width, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs, _ = token_logprobs(hidden, head, targets, chunks=8)
    assert sum(kept) < 4 * rows * vocabulary / 8 + 1.1 * 4 * head.weight.numel()
    logprobs.sum().backward()


def test_logits_that_fit_in_one_piece_are_computed_once() -> None:
    calls = []

    def head(states: Tensor) -> Tensor:
        calls.append(len(states))
        return states

    hidden = torch.randn(6, 4, requires_grad=True)
    for chunks, wanted in ((1, [6]), (2, [3, 3, 3])):
        calls.clear()
        token_logprobs(hidden, head, torch.zeros(6, dtype=torch.int64), chunks=chunks)[0].sum().backward()  # type: ignore[no-untyped-call]
        assert calls == wanted


def test_bfloat16_logits_are_widened_before_the_softmax() -> None:
    head = nn.Linear(3, 4, bias=False, dtype=torch.bfloat16)
    hidden = torch.randn(2, 3, dtype=torch.bfloat16)
    logprobs, entropy = token_logprobs(hidden, head, torch.tensor([0, 3]))
    assert logprobs.dtype == entropy.dtype == torch.float32
    want = torch.log_softmax(head(hidden).float(), -1)[[0, 1], [0, 3]]
    torch.testing.assert_close(logprobs, want, rtol=0, atol=1e-6)


def test_no_tokens_at_all() -> None:
    head = nn.Linear(3, 4)
    hidden = torch.randn(0, 3, requires_grad=True)
    for chunks in (None, 2):
        logprobs, _ = token_logprobs(hidden, head, torch.zeros(0, dtype=torch.int64), chunks=chunks)
        assert logprobs.shape == (0,)
        logprobs.sum().backward()


def test_each_token_is_predicted_by_the_position_before_it() -> None:
    # The head says of state s: token s + 1 for certain. A row that counts up is therefore scored 0.0 everywhere.
    token_ids = torch.tensor([[3, 4, 5, 6], [1, 2, 9, 4]])
    mask = torch.tensor([[True, True, True, True], [False, True, True, True]])
    chosen = predicting(mask)
    states = torch.nn.functional.one_hot(token_ids + 1, 12).float() * 100
    logprobs, _ = token_logprobs(chosen.predicting(states), nn.Identity(), chosen.tokens(token_ids))
    column = chosen.scatter(logprobs)
    assert column.tolist() == [[0, 0, 0, 0], [0, 0, -100, -100]]
    assert (0, 0) not in list(zip(chosen.rows.tolist(), chosen.columns.tolist(), strict=True))


def test_the_first_token_of_a_packed_sample_is_never_scored() -> None:
    mask = torch.tensor([[False, True, True, True, True, False]])
    chosen = predicting(mask, sample_ids=torch.tensor([[0, 0, 1, 1, 1, -1]]))
    assert chosen.columns.tolist() == [1, 3, 4]


# Over the tokens that were kept


def draw_kept(targets: Tensor, vocabulary: int) -> tuple[list[list[int]], Kept]:
    """A random set with its target for each token."""
    sets = []
    for i, target in enumerate(targets.tolist()):
        others = torch.randperm(vocabulary)[: i % vocabulary].tolist()
        sets.append(sorted({target, *others}))
    ids = torch.tensor([token for own in sets for token in own])
    return sets, Kept(ids, torch.tensor([len(own) for own in sets]))


@pytest.mark.parametrize("chunks", [1, 3, 20])
def test_kept_tokens_are_renormalised_as_a_mask_would(chunks: int) -> None:
    torch.manual_seed(0)
    head = nn.Linear(5, 7).double()
    hidden = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (11,))
    sets, kept = draw_kept(targets, 7)
    inputs = [hidden, *head.parameters()]
    allowed = torch.zeros(11, 7, dtype=torch.bool)
    for i, own in enumerate(sets):
        allowed[i, own] = True

    masked = torch.log_softmax((head(hidden) / 0.6).masked_fill(~allowed, -torch.inf), dim=-1)
    safe = masked.masked_fill(~allowed, 0.0)
    want = (
        *plain(hidden, head, targets, 0.6),
        masked[torch.arange(11), targets],
        -(safe.exp() * safe * allowed).sum(-1),
    )
    got = kept_logprobs(hidden, head, targets, kept, 0.6, entropy_grad=True, chunks=chunks)

    mixture = torch.randn(4, 11, dtype=torch.float64)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad((torch.stack(want) * mixture).sum(), inputs)
    for ours, theirs in zip(torch.autograd.grad((torch.stack(got) * mixture).sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_the_case_nlpo_mask() -> None:
    logits = torch.tensor([1.0, 1.5, 0.5, 0.0, 0.2], dtype=torch.float64)
    kept = Kept(torch.tensor([0, 1, 2, 4]), torch.tensor([4]))
    found = kept_logprobs(logits[None], nn.Identity(), torch.tensor([1]), kept)
    # log(e^1.5 / (e^1 + e^1.5 + e^0.5 + e^0.2)), and over all five
    torch.testing.assert_close(found[2].item(), -0.8095701334643319, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[0].item(), -0.9042473219012498, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[3].item(), 1.2659397907071719, rtol=0, atol=1e-12)


def test_the_sets_of_chosen_tokens_are_found_in_packed_and_padded_rows() -> None:
    torch.manual_seed(0)
    # (2, 4): the first column is never predicted, the last token of the second row is padding
    action_mask = torch.tensor([[True, True, False, True], [False, True, True, False]])
    counts = torch.tensor([[2, 1, 0, 3], [0, 2, 1, 0]])
    ids = torch.tensor([90, 91, 10, 20, 21, 22, 30, 31, 40])
    kept = predicting(action_mask).kept(ids, counts)
    assert kept.ids.tolist() == [10, 20, 21, 22, 30, 31, 40]
    assert kept.counts.tolist() == [1, 3, 2, 1]
    assert predicting(torch.zeros(2, 4, dtype=torch.bool)).kept(ids, counts).ids.tolist() == []


@pytest.mark.parametrize("asked", ["log-probabilities", "entropies", "both"])
@pytest.mark.parametrize("vocabulary", [7, 150_000])
def test_gradients_of_large_and_small_vocabularies(asked: str, vocabulary: int) -> None:
    """A row of logits alone, and many in a block; one token is ruled out, and both outputs have a large gradient."""
    torch.manual_seed(0)
    logits = torch.randn(9, vocabulary, dtype=torch.float64)
    logits[:, 3] = -torch.inf
    logits[4, 5] = 60.0
    logits.requires_grad_()
    targets = torch.randint(4, 7, (9,))
    wanted_logprobs = torch.log_softmax(logits / 0.7, -1)
    finite = wanted_logprobs.masked_fill(wanted_logprobs.isinf(), 0.0)
    want = (
        wanted_logprobs.gather(-1, targets[:, None])[:, 0],
        -(finite.exp() * finite).masked_fill(wanted_logprobs.isinf(), 0.0).sum(-1),
    )
    got = token_logprobs(logits, nn.Identity(), targets, 0.7, entropy_grad=True, chunks=1)
    weights = torch.linspace(-1e6, 1e6, 9, dtype=torch.float64)
    gradients = []
    for logprobs, entropy in (got, want):
        total = logprobs.new_zeros(())
        total = total + (logprobs * weights).sum() * (asked != "entropies")
        total = total + (entropy * weights.flip(0)).sum() * (asked != "log-probabilities")
        gradients.append(torch.autograd.grad(total, logits)[0])
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    torch.testing.assert_close(gradients[0], gradients[1].nan_to_num(0.0), rtol=1e-9, atol=1e-8)


def test_beside_the_logits_of_a_piece_only_their_gradient_is_as_large() -> None:
    head = nn.Linear(8, 50_000, bias=False)
    hidden = torch.randn(256, 8, requires_grad=True)
    with Sizes() as sizes:
        token_logprobs(hidden, head, torch.randint(50_000, (256,)), 0.7, chunks=4)[0].sum().backward()
    assert sizes.large(64 * 50_000 * 4) == 3 * 4 - 1, "logits twice, but of the last piece, and their gradient"
