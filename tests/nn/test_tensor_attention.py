"""Attention to pairs of tokens: against its definition, with every pair written out."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from tenfold.errors import DataError, TenfoldError
from tenfold.nn import (
    TensorAttention,
    polynomial_degree,
    polynomial_error,
    polynomial_tensor_attention,
    score_bound,
    tensor_attention,
)
from tenfold.nn import _tensor_attention as blocks


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def inputs(*batch: int, n: int = 9, first: int = 7, second: int = 11, dim: int = 3, value: int = 4) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    shapes = ((n, dim), (first, dim), (second, dim), (first, value), (second, value))
    return tuple(torch.randn(*batch, *s, generator=generator, dtype=torch.float64) for s in shapes)


def written_out(
    q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """The definition; ``mask`` is true for the triples that count."""
    scores = scale * torch.einsum("...il,...jl,...kl->...ijk", q, k1, k2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = torch.softmax(scores.flatten(-2), dim=-1).view_as(scores)
    return torch.einsum("...ijk,...jl,...kl->...il", weights, v1, v2)


def before(n: int) -> Tensor:
    late = torch.ones(n, n, dtype=torch.bool).tril()
    return late[:, :, None] & late[:, None, :]


@pytest.fixture(params=["one block", "many blocks"])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many blocks":
        monkeypatch.setattr(blocks, "_HELD", {"cpu": 24})
        monkeypatch.setattr(blocks, "_SECOND", 4)
        monkeypatch.setattr(blocks, "_FIRST", 3)


@pytest.fixture(params=["no maximum", "running maximum"])
def maxima(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "running maximum":
        monkeypatch.setattr(blocks, "_SAFE", -math.inf)


@pytest.mark.usefixtures("small_blocks", "maxima")
class TestExact:
    def test_it_is_the_definition(self) -> None:
        given = inputs(2)
        torch.testing.assert_close(tensor_attention(*given), written_out(*given, 3**-0.5), rtol=0, atol=1e-14)
        torch.testing.assert_close(tensor_attention(*given, scale=1.7), written_out(*given, 1.7), rtol=0, atol=1e-14)

    def test_causal(self) -> None:
        given = inputs(n=8, first=8, second=8)
        expected = written_out(*given, 0.5, before(8))
        torch.testing.assert_close(tensor_attention(*given, scale=0.5, causal=True), expected, rtol=0, atol=1e-14)

    def test_masks(self) -> None:
        q, k1, k2, v1, v2 = inputs(2)
        mask1, mask2 = torch.rand(2, 7) < 0.6, torch.rand(11) < 0.6
        mask1[:, 0] = mask2[0] = True
        pairs = mask1[:, None, :, None] & mask2[None, None, None, :]
        expected = written_out(q, k1, k2, v1, v2, 3**-0.5, pairs)
        # Garbage where nothing may be looked at.
        k1, v2 = k1.masked_fill(~mask1[..., None], math.nan), v2.masked_fill(~mask2[..., None], math.inf)
        found = tensor_attention(q, k1, k2, v1, v2, mask1=mask1, mask2=mask2)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)

    @pytest.mark.parametrize("causal", [False, True])
    def test_gradients(self, causal: bool) -> None:
        given = [x.requires_grad_() for x in inputs(2, n=4, first=4, second=4, dim=3, value=2)]
        mask = torch.tensor([True, False, True, True])
        slope = inputs(2, n=4, value=2)[3][:, :4]
        pairs = mask[:, None] & (before(4) if causal else torch.ones(4, 4, 4, dtype=torch.bool))
        expected = torch.autograd.grad(written_out(*given, 0.3, pairs), given, slope)
        options = {"causal": causal, "mask1": mask, "scale": 0.3}
        found = torch.autograd.grad(tensor_attention(*given, **options), given, slope)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
        assert torch.autograd.gradcheck(lambda *x: tensor_attention(*x, **options), given, fast_mode=True)

    def test_nothing_to_attend_to_is_zero(self) -> None:
        given = [x.requires_grad_() for x in inputs(2)]
        mask = torch.tensor([[False] * 7, [True] * 7])
        found = tensor_attention(*given, mask1=mask)
        assert torch.equal(found[0], torch.zeros_like(found[0]))
        assert found[1].abs().min() > 0
        for slope in torch.autograd.grad(found.square().sum(), given):
            assert torch.equal(slope[0], torch.zeros_like(slope[0]))
            assert slope[1].isfinite().all()

    def test_large_scores_neither_overflow_nor_vanish(self) -> None:
        q, k1, k2, v1, v2 = (x.float() for x in inputs())
        for factor in (1e4, -1e4, 1e-30):
            expected = written_out(*(x.double() for x in (factor * q, k1, k2, v1, v2)), 1.0).float()
            torch.testing.assert_close(tensor_attention(factor * q, k1, k2, v1, v2, scale=1.0), expected)
            nothing = tensor_attention(factor * q, k1, k2, torch.zeros_like(v1), v2, scale=1.0)
            assert torch.equal(nothing, torch.zeros_like(nothing))
        # Products of values near the largest number there is.
        big = tensor_attention(q, k1, k2, 1e18 * v1, 1e18 * v2)
        torch.testing.assert_close(big / 1e36, tensor_attention(q, k1, k2, v1, v2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_transforms_of_functions(causal: bool) -> None:
    given = [x.double() for x in (inputs(2, n=7, second=7) if causal else inputs(2))]
    first, second = (torch.rand(2, x.shape[-2]) > 0.3 for x in given[1:3])
    first[1] = False

    def attended(*tensors: Tensor) -> Tensor:
        return tensor_attention(*tensors, causal=causal, mask1=first, mask2=second)

    leaves = [x.requires_grad_() for x in given]
    gradients = torch.autograd.grad(attended(*leaves).square().sum(), leaves)
    leaves = [x.detach() for x in leaves]
    found = torch.func.grad(lambda *tensors: attended(*tensors).square().sum(), tuple(range(5)))(*leaves)
    torch.testing.assert_close(found, gradients)
    made, slope = torch.func.jvp(attended, tuple(leaves), tuple(leaves))
    torch.testing.assert_close(made, attended(*leaves))
    far = 1e-6
    ahead, behind = (attended(*(x * (1 + sign * far) for x in leaves)) for sign in (1, -1))
    torch.testing.assert_close(slope, (ahead - behind) / (2 * far), rtol=1e-6, atol=1e-8)
    with forward_ad.dual_level():
        made = attended(*(forward_ad.make_dual(x, x) for x in leaves))
        torch.testing.assert_close(forward_ad.unpack_dual(made).tangent, slope)
    twice = torch.func.vmap(lambda query: tensor_attention(query, *leaves[1:], causal=causal))(
        torch.stack(leaves[:1] * 2)
    )
    torch.testing.assert_close(twice[1], tensor_attention(*leaves, causal=causal))


def test_no_number_stays_none() -> None:
    q, k1, k2, v1, v2 = inputs()
    q[2, 1] = math.nan
    found = tensor_attention(q, k1, k2, v1, v2)
    assert found[2].isnan().all()
    assert found[[0, 1, 3]].isfinite().all()


def test_leading_axes_broadcast_and_may_be_empty() -> None:
    q, k1, k2, v1, v2 = inputs(2, 3)
    found = tensor_attention(q, k1[0], k2[:, :1], v1[0, 0], v2)
    assert found.shape == (2, 3, 9, 4)
    torch.testing.assert_close(found[1, 2], tensor_attention(q[1, 2], k1[0, 2], k2[1, 0], v1[0, 0], v2[1, 2]))
    assert tensor_attention(*(x[:0] for x in (q, k1, k2, v1, v2))).shape == (0, 3, 9, 4)
    assert tensor_attention(q[..., :0, :], k1, k2, v1, v2).shape == (2, 3, 0, 4)
    nothing = tensor_attention(q, k1[..., :0, :], k2, v1[..., :0, :], v2)
    assert torch.equal(nothing, torch.zeros(2, 3, 9, 4, dtype=torch.float64))
    assert polynomial_tensor_attention(*(x[:0] for x in (q, k1, k2, v1, v2)), degree=2).shape == (0, 3, 9, 4)


def test_half_precision_and_autocast_are_computed_in_single() -> None:
    given = inputs(dim=8)
    half = [x.bfloat16() for x in given]
    exact = written_out(*(x.double() for x in half), 8**-0.5)
    found = tensor_attention(*half)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-6)
    single = [x.float().requires_grad_() for x in given]
    plain = tensor_attention(*single)
    slopes = torch.autograd.grad(plain.sum(), single)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = tensor_attention(*single)
        slopes_under = torch.autograd.grad(under.sum(), single)
        smooth = polynomial_tensor_attention(*single, degree=2)
    torch.testing.assert_close(under, plain, rtol=0, atol=0)
    torch.testing.assert_close(smooth, polynomial_tensor_attention(*single, degree=2), rtol=0, atol=0)
    for one, other in zip(slopes, slopes_under, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_strided_inputs() -> None:
    given = inputs(2)
    turned = [x.mT.contiguous().mT for x in given]
    assert not turned[0].is_contiguous()
    torch.testing.assert_close(tensor_attention(*turned), tensor_attention(*given))


def test_memory_does_not_grow_with_pairs() -> None:
    # A hundred times as many scores, and no block is larger than what is held.
    given = [x.float() for x in inputs(n=16, first=700, second=700)]
    largest = 0
    product = blocks._Scratch.product

    def watched(self: blocks._Scratch, left: Tensor, right: Tensor) -> Tensor:
        nonlocal largest
        found = product(self, left, right)
        largest = max(largest, found.numel())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks._Scratch, "product", watched)
        tensor_attention(*given)
    assert 0 < largest <= blocks._HELD["cpu"] < 16 * 700 * 700


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key1": torch.zeros(7, 2)}, r"key1 of shape \(7, 2\) does not fit query of shape \(9, 3\)"),
        ({"value2": torch.zeros(10, 4)}, r"value2 of shape \(10, 4\) does not fit key2 of shape \(11, 3\)"),
        ({"query": torch.zeros(9, 3, dtype=torch.long)}, "query must be a real tensor"),
        ({"query": torch.zeros(3)}, "query must be a real tensor of shape"),
        ({"mask1": torch.ones(7)}, "mask1 must be boolean"),
        ({"mask2": torch.ones(7, dtype=torch.bool)}, "mask2 must be boolean with a last axis of 11 keys"),
        ({"causal": True}, "causal needs as many queries as keys of each kind, not 9, 7, 11"),
        ({"scale": "large"}, "scale must be a number, not 'large'"),
    ],
)
@pytest.mark.parametrize("function", [tensor_attention, polynomial_tensor_attention])
def test_refusals(function: object, change: dict[str, object], words: str) -> None:
    given = dict(zip(("query", "key1", "key2", "value1", "value2"), inputs(), strict=True))
    with pytest.raises(TenfoldError, match=words):
        function(**{**given, **change})  # type: ignore[operator]


class TestPolynomial:
    def test_it_is_the_polynomial_of_the_scores(self) -> None:
        q, k1, k2, v1, v2 = inputs(2)
        scores = 0.4 * torch.einsum("bil,bjl,bkl->bijk", q, k1, k2)
        for degree in (0, 2, 4):
            weights = sum(scores**t / math.factorial(t) for t in range(degree + 1))
            expected = torch.einsum("bijk,bjl,bkl->bil", weights, v1, v2) / weights.sum(dim=(2, 3))[..., None]
            found = polynomial_tensor_attention(q, k1, k2, v1, v2, scale=0.4, degree=degree)
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    def test_causal_in_pieces(self) -> None:
        q, k1, k2, v1, v2 = inputs(2, n=70, first=70, second=70, dim=2)
        scores = 0.2 * torch.einsum("bil,bjl,bkl->bijk", q, k1, k2)
        weights = sum(scores**t / math.factorial(t) for t in range(3)) * before(70)
        expected = torch.einsum("bijk,bjl,bkl->bil", weights, v1, v2) / weights.sum(dim=(2, 3))[..., None]
        found = polynomial_tensor_attention(q, k1, k2, v1, v2, scale=0.2, degree=2, causal=True)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("causal", [False, True])
    def test_masks_and_gradients(self, causal: bool) -> None:
        given = inputs(n=6, first=6, second=6, dim=2)
        mask1 = torch.tensor([True, True, False, True, False, True])
        mask2 = torch.tensor([True, False, True, True, True, True])
        options = {"mask1": mask1, "mask2": mask2, "causal": causal, "scale": 0.1}
        exact = tensor_attention(*given, **options)
        found = polynomial_tensor_attention(*given, **options, degree=10)
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-9)
        leaves = [x.requires_grad_() for x in given]
        assert torch.autograd.gradcheck(lambda *x: polynomial_tensor_attention(*x, **options, degree=2), leaves)

    def test_gradients_over_pieces(self) -> None:
        given = [x.requires_grad_() for x in inputs(n=40, first=40, second=40, dim=2)]
        options = {"causal": True, "scale": 0.02}
        exact = torch.autograd.grad(tensor_attention(*given, **options).square().sum(), given)
        found = torch.autograd.grad(polynomial_tensor_attention(*given, **options, degree=8).square().sum(), given)
        for one, other in zip(found, exact, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-8)

    @pytest.mark.parametrize("largest", [0.5, 1.0, 1.5, 2.0])
    def test_the_bound_holds_and_says_something(self, largest: float) -> None:
        generator = torch.Generator().manual_seed(1)
        given = [largest * (2 * torch.rand(30, 3, generator=generator, dtype=torch.float64) - 1) for _ in range(5)]
        exact, size = tensor_attention(*given, scale=1 / 3), given[3].abs().max() * given[4].abs().max()
        scores = score_bound(*given[:3], scale=1 / 3)
        true = torch.einsum("il,jl,kl->ijk", *given[:3]).abs().max() / 3
        assert true <= scores <= min(largest**3, 2 * float(true))
        for degree in (2, 4, 6, 8):
            found = polynomial_tensor_attention(*given, scale=1 / 3, degree=degree)
            error = float((found - exact).abs().max() / size)
            assert error <= polynomial_error(scores, degree, 3).output
        for wanted in (1e-1, 1e-3, 1e-6):
            found = polynomial_tensor_attention(*given, scale=1 / 3, error=wanted)
            assert float((found - exact).abs().max() / size) <= wanted

    def test_the_relative_error_of_weights(self) -> None:
        x = torch.linspace(-2, 2, 401, dtype=torch.float64)
        for degree in (2, 4, 8):
            polynomial = sum(x**t / math.factorial(t) for t in range(degree + 1))
            worst = float((polynomial / x.exp() - 1).abs().max())
            assert 0.2 * polynomial_error(2.0, degree, 1).relative < worst <= polynomial_error(2.0, degree, 1).relative

    def test_the_degree_is_the_smallest(self) -> None:
        for scores in (0.1, 1.0, 8.0):
            for error in (1e-2, 1e-6):
                degree = polynomial_degree(scores, error)
                assert polynomial_error(scores, degree, 1).output <= error
                assert polynomial_error(scores, degree - 2, 1).output > error
        assert polynomial_degree(0.0, 1e-12) == 0
        assert polynomial_error(1.0, 4, 3).features == 35
        assert polynomial_error(500.0, 2, 3).output == 2
        assert polynomial_error(5000.0, 2, 3).relative == math.inf

    def test_refusals(self) -> None:
        given = inputs()
        with pytest.raises(TenfoldError, match="degree 3 is odd, and such a polynomial has a zero; take 2 or 4"):
            polynomial_tensor_attention(*given, degree=3)
        with pytest.raises(
            TenfoldError, match=r"degree 2 keeps outputs to .*, not to error 0.001, .*; take degree \d+"
        ):
            polynomial_tensor_attention(*given, degree=2, error=1e-3)
        with pytest.raises(TenfoldError, match="need a degree above 100"):
            polynomial_tensor_attention(*given, scale=100.0)
        with pytest.raises(TenfoldError, match=r"degree 4 of keys of size 64 has 814,385 monomials, more than 200,000"):
            polynomial_tensor_attention(*inputs(dim=64), degree=4)
        with pytest.raises(DataError, match="scores are not finite"):
            polynomial_tensor_attention(given[0] * math.nan, *given[1:])
        with pytest.raises(TenfoldError, match="error must be a positive number"):
            polynomial_degree(1.0, 0.0)
        with pytest.raises(TenfoldError, match="scores must be a bound"):
            polynomial_error(-1.0, 2, 1)


class TestLayer:
    def test_heads_are_attention_of_their_own(self) -> None:
        layer = TensorAttention(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        tokens = torch.randn(3, 5, 6, dtype=torch.float64)
        parts = (tokens @ layer.project.weight.T + layer.project.bias).view(3, 5, 5, 2, 3)
        heads = [written_out(*parts[:, :, :, h].unbind(2), 3**-0.5) for h in range(2)]
        expected = torch.cat(heads, dim=-1) @ layer.mix.weight.T + layer.mix.bias
        torch.testing.assert_close(layer(tokens), expected)
        smooth = TensorAttention(6, 2, degree=12, dtype=torch.float64)
        smooth.load_state_dict(layer.state_dict())
        torch.testing.assert_close(smooth(0.5 * tokens), layer(0.5 * tokens))
        assert repr(layer).startswith("TensorAttention(\n  6, heads=2, head_dim=3, causal=False, exact")

    @pytest.mark.parametrize("degree", [None, 2])
    def test_filled_up_sequences(self, degree: int | None) -> None:
        layer = TensorAttention(6, 2, head_dim=2, degree=degree)
        tokens = torch.randn(2, 5, 6)
        mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
        found = layer(tokens, mask)
        torch.testing.assert_close(found[1, :3], layer(tokens[1, :3]))
        torch.testing.assert_close(found[0], layer(tokens[0]))

    @pytest.mark.parametrize("degree", [None, 2])
    def test_causal_tokens_do_not_see_what_follows(self, degree: int | None) -> None:
        layer = TensorAttention(4, 2, causal=True, degree=degree)
        tokens = torch.randn(7, 4)
        torch.testing.assert_close(layer(tokens)[:5], layer(tokens[:5]))

    def test_seeds_copies_and_states(self) -> None:
        one, other = (TensorAttention(4, 2, generator=torch.Generator().manual_seed(3)) for _ in range(2))
        tokens = torch.randn(2, 3, 4)
        torch.testing.assert_close(one(tokens), other(tokens), rtol=0, atol=0)
        torch.testing.assert_close(copy.deepcopy(one)(tokens), one(tokens), rtol=0, atol=0)
        third = TensorAttention(4, 2)
        third.load_state_dict(one.state_dict())
        torch.testing.assert_close(third(tokens), one(tokens), rtol=0, atol=0)

    def test_export_with_any_batch(self) -> None:
        layer = TensorAttention(4, 2)
        batch = torch.export.Dim("batch", min=1, max=64)
        exported = torch.export.export(layer, (torch.randn(3, 5, 4),), dynamic_shapes=({0: batch},))
        tokens = torch.randn(7, 5, 4)
        torch.testing.assert_close(exported.module()(tokens), layer(tokens))

    @pytest.mark.slow
    def test_one_graph(self) -> None:
        layer = TensorAttention(4, 2)
        compiled = torch.compile(layer, fullgraph=True)
        tokens = torch.randn(3, 5, 4, requires_grad=True)
        torch.testing.assert_close(compiled(tokens), layer(tokens))
        (slope,) = torch.autograd.grad(compiled(tokens).square().sum(), tokens)
        (expected,) = torch.autograd.grad(layer(tokens).square().sum(), tokens)
        torch.testing.assert_close(slope, expected)

    def test_refusals(self) -> None:
        with pytest.raises(TenfoldError, match="heads 4 do not divide dim 6"):
            TensorAttention(6, 4)
        with pytest.raises(TenfoldError, match="degree 5 is odd"):
            TensorAttention(6, 2, degree=5)
        with pytest.raises(DataError, match=r"tokens must have shape \(\*batch, length, 6\), not \(3, 5\)"):
            TensorAttention(6, 2)(torch.zeros(3, 5))
