"""The benchmark of tensor attention: its peers compute the same."""

from __future__ import annotations

import torch

from benchmarks.tensor_attention import approximation, inputs, pieces, plain, trained
from tenfold.nn import tensor_attention


def test_peers_are_the_same_attention() -> None:
    given = inputs(10, 3)
    for causal in (False, True):
        ours = tensor_attention(*given, causal=causal)
        torch.testing.assert_close(plain(*given, causal=causal), ours)
        for size in (1, 4):
            torch.testing.assert_close(pieces(size, *given, causal=causal), ours)
    torch.testing.assert_close(trained(plain, given), trained(tensor_attention, given))


def test_the_approximation_is_within_its_bound() -> None:
    found = approximation(64, 2, 1e-2, 4)
    assert 0 < found["measured"] < found["output"] <= 1e-2
