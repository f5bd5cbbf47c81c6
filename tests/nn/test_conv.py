from __future__ import annotations

from typing import Any

import pytest
import torch
from nn.linear_oracles import check_compiles, check_copies, check_exports, check_half
from torch import Tensor, nn

from tenfold import formats
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.nn import OneWayConv, StructuredConv
from tenfold.nn.conv_formats import space_train, tucker2
from tenfold.nn.recipes import module_of, recipe_of
from tenfold.structure import Structure

SHAPE = (6, 4, 3, 5)
CHAINS = {
    "tucker2": tucker2(SHAPE, (3, 2)),
    "train through space": space_train(SHAPE, (3, 4, 4)),
    "cp": formats.cp(SHAPE, 5),
    "train in the order of the axes": formats.tensor_train(SHAPE, (3, 4, 2)),
    "tucker": formats.tucker(SHAPE, (3, 2, 2, 2)),
    "ring": formats.tensor_ring(SHAPE, 2),
    "tree": formats.hierarchical_tucker(SHAPE, 2),
    "all connected": formats.fully_connected(SHAPE, 2),
    "kronecker": Structure("n a b, n c d x y -> (a c) (b d) x y", n=2, a=2, b=2, c=3, d=2, x=3, y=5),
    "two blocks": Structure("i2 j1 j2 x, i1 i2 j1 y -> (i1 i2) (j1 j2) x y", i1=2, i2=3, j1=2, j2=2, x=3, y=5),
    "a weight for each term": Structure("o r, i r, r, x r, y r -> o i x y", o=6, i=4, x=3, y=5, r=3),
    "one core twice": Structure("o r, i r, U[x r], U[y r] -> o i x y", o=6, i=4, x=3, y=3, r=3),
    "taps in another order": Structure("o r, i r t s y -> o i (s t) y", o=6, i=4, s=2, t=2, y=3, r=3),
    "one axis": tucker2((6, 4, 5), (3, 2)),
    "three axes": space_train((6, 4, 3, 2, 3), (2, 3, 3, 2)),
}
NO_CHAIN = {
    "an axis on two cores": Structure("n a b x, n c d x y -> (a c) (b d) x y", n=2, a=2, b=2, c=3, d=2, x=3, y=3),
    "taps on two cores": Structure("o r x, i r s y -> o i (x s) y", o=6, i=4, r=2, x=2, s=2, y=3),
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1, "dilation": 2},
    {"padding": "same", "bias": False},
    {"padding": "valid", "groups": 2},
    {"padding": 1, "padding_mode": "circular", "stride": (2,), "groups": 2},
]


def layer_of(structure: Structure, **settings: Any) -> StructuredConv:
    layer = StructuredConv(structure, dtype=torch.float64, generator=torch.Generator().manual_seed(0), **settings)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(1))
    return layer


def dense_of(layer: StructuredConv) -> nn.Module:
    cls: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(layer.kernel_size)]
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    made = cls(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        **{name: getattr(layer, name) for name in names},
        bias=layer.bias is not None,
        dtype=torch.float64,
    )
    made.weight = nn.Parameter(layer.to_dense().detach())
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach().clone())
    return made


def inputs_for(layer: StructuredConv, *batch: int) -> Tensor:
    size = (9, 8, 7)[: len(layer.kernel_size)]
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*batch, layer.in_channels, *size, dtype=torch.float64, generator=generator)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", [*CHAINS, *NO_CHAIN])
def test_a_layer_is_the_convolution_with_its_kernel(name: str, settings: dict[str, Any]) -> None:
    structure = {**CHAINS, **NO_CHAIN}[name]
    ways = ("factorised", "materialised") if name in CHAINS else ("auto",)
    for way in ways:
        layer = layer_of(structure, execution=way, **settings)
        dense = dense_of(layer)
        for batch in ((2,), (), (0,)):
            x = inputs_for(layer, *batch)
            torch.testing.assert_close(layer(x), dense(x))
        with torch.no_grad():
            x = inputs_for(layer, 3)
            torch.testing.assert_close(layer(x), dense(x))
            strided = x.repeat_interleave(2, dim=2)[:, :, ::2]
            torch.testing.assert_close(layer(strided), dense(x))


@pytest.mark.parametrize("name", ["cp", "tucker2", "all connected", "an axis on two cores"])
def test_derivatives_and_adjoint(name: str) -> None:
    layer = layer_of({**CHAINS, **NO_CHAIN}[name], padding=1)
    names = [n for n, _ in layer.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    x = inputs_for(layer, 1)[..., :4, :5].clone().requires_grad_()

    def call(x: Tensor, *numbers: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, numbers, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *values), fast_mode=True)
    x = inputs_for(layer, 2).requires_grad_()
    made, wanted = layer(x), dense_of(layer)(x)
    y = torch.randn(made.shape, dtype=made.dtype, generator=torch.Generator().manual_seed(3))
    (mine,), (theirs,) = torch.autograd.grad(made, x, y), torch.autograd.grad(wanted, x, y)
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ["cp", "train in the order of the axes", "an axis on two cores", "three axes"])
def test_copies_files_and_half_precision(name: str) -> None:
    layer = layer_of({**CHAINS, **NO_CHAIN}[name], padding=1)
    x = inputs_for(layer, 2)
    check_copies(layer, x)
    check_half(layer, x)
    assert sum(p.numel() for p in layer.cores.values()) == layer.structure.parameters == layer.parameters_of_kernel
    again = module_of(recipe_of(layer))
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x), layer(x))
    assert recipe_of(again) == recipe_of(layer)


def test_one_graph_and_any_batch() -> None:
    layer = layer_of(CHAINS["tucker2"], padding=1, stride=2)
    check_exports(layer, lambda batch: inputs_for(layer, batch))
    check_exports(layer_of(CHAINS["all connected"], padding=1, execution="factorised"), lambda n: inputs_for(layer, n))


@pytest.mark.slow
def test_one_graph_of_compile() -> None:
    for name in ("tucker2", "all connected"):
        layer = layer_of(CHAINS[name], padding=1, execution="factorised")
        check_compiles(layer, inputs_for(layer, 2))


def test_chains_take_the_steps_of_the_field() -> None:
    def steps(structure: Structure) -> list[tuple[tuple[int, ...], int]]:
        held = layer_of(structure)._subject.steps
        assert held is not None
        return [(step.weight, step.groups) for step in held.steps]

    shape = (32, 16, 3, 3)
    assert steps(tucker2(shape, (6, 4))) == [((4, 16, 1, 1), 1), ((6, 4, 3, 3), 1), ((32, 6, 1, 1), 1)]
    cp = steps(formats.cp(shape, 5))
    assert cp[0] == ((5, 16, 1, 1), 1)
    assert cp[3] == ((32, 5, 1, 1), 1)
    assert sorted(cp[1:3]) == [((5, 1, 1, 3), 5), ((5, 1, 3, 1), 5)]
    assert [weight for weight, _ in steps(space_train(shape, (4, 5, 6)))] == [
        (4, 16, 1, 1),
        (5, 4, 3, 1),
        (6, 5, 1, 3),
        (32, 6, 1, 1),
    ]
    # The factors of the kernel's axes belong to the core.
    assert len(steps(formats.tucker(shape, (6, 4, 3, 3)))) == 3
    assert layer_of(tucker2(shape, (6, 4)), padding=1).flops(2, (8, 8)) == 2 * 2 * 64 * (64 + 216 + 192)


def test_the_start_has_the_variance_of_a_layer() -> None:
    for structure in (tucker2((64, 32, 3, 3), (24, 16)), formats.cp((64, 32, 3, 3), 40)):
        layer = StructuredConv(structure, generator=torch.Generator().manual_seed(0))
        assert layer.to_dense().var().item() == pytest.approx(1 / (32 * 9), rel=0.25)


def test_from_dense_is_the_best_approximation() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 3, stride=2, padding=1, dtype=torch.float64)
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    for full in (tucker2((12, 8, 3, 3), (12, 8)), space_train((12, 8, 3, 3), (8, 24, 12))):
        layer = StructuredConv.from_dense(conv, full)
        torch.testing.assert_close(layer(x), conv(x))
    # A kernel of low rank in both channels is found again, whatever its other axes hold.
    low = layer_of(tucker2((12, 8, 3, 3), (4, 3)))
    found = StructuredConv.from_dense(low.to_dense(), low.structure, padding=1)
    torch.testing.assert_close(found.to_dense(), low.to_dense())
    assert found.padding == (1, 1)
    assert found.bias is None
    # One bond: the best of that rank by Eckart and Young.
    pair = Structure("o r, r i x y -> o i x y", o=12, i=8, x=3, y=3, r=5)
    left = StructuredConv.from_dense(conv, pair).to_dense() - conv.weight
    values = torch.linalg.svdvals(conv.weight.flatten(1))
    assert left.norm().item() == pytest.approx(values[5:].norm().item(), rel=1e-9)
    cp = layer_of(formats.cp((12, 8, 3, 3), 3))
    assert (StructuredConv.from_dense(cp.to_dense(), cp.structure).to_dense() - cp.to_dense()).norm() < 1e-5
    kron = layer_of(CHAINS["kronecker"])
    again = StructuredConv.from_dense(kron.to_dense(), kron.structure)
    assert (again.to_dense() - kron.to_dense()).norm() < 1e-3 * kron.to_dense().norm()


def test_from_dense_looks_where_the_channels_vary() -> None:
    torch.manual_seed(0)
    weight, mixing = torch.randn(12, 8, 3, 3, dtype=torch.float64), torch.randn(8, 8, dtype=torch.float64)
    covariance = mixing @ mixing.T
    structure = Structure("i r, r o x y -> o i x y", o=12, i=8, x=3, y=3, r=3)
    made = StructuredConv.from_dense(weight, structure, covariance_of_channels=covariance)
    left = torch.movedim(weight - made.to_dense(), 1, -1) @ torch.linalg.cholesky(covariance)
    seen = torch.movedim(weight, 1, -1).reshape(-1, 8) @ torch.linalg.cholesky(covariance)
    assert left.norm().item() == pytest.approx(torch.linalg.svdvals(seen)[3:].norm().item(), rel=1e-4)
    # Channels in which nothing came in cost nothing and break nothing.
    covariance[:, 2] = covariance[2] = 0
    assert StructuredConv.from_dense(weight, structure, covariance_of_channels=covariance).to_dense().isfinite().all()


def test_what_is_no_kernel_is_refused() -> None:
    good = CHAINS["cp"]
    with pytest.raises(StructureError, match="3 to 5 axes"):
        StructuredConv(formats.low_rank(3, 4, 2))
    with pytest.raises(StructureError, match="4 groups do not divide 6"):
        StructuredConv(good, groups=4)
    with pytest.raises(StructureError, match="no chain"):
        StructuredConv(NO_CHAIN["taps on two cores"], execution="factorised")
    with pytest.raises(TenfoldError, match="'same' needs a stride of 1"):
        StructuredConv(good, padding="same", stride=2)
    with pytest.raises(TenfoldError, match="stride must be"):
        StructuredConv(good, stride=0)
    with pytest.raises(TenfoldError, match="padding_mode must be"):
        StructuredConv(good, padding_mode="mirror")
    with pytest.raises(DataError, match="4 channels and 2 axes"):
        StructuredConv(good)(torch.ones(2, 3, 9, 9))
    with pytest.raises(StructureError, match="is of shape"):
        StructuredConv.from_dense(torch.ones(6, 4, 3, 3), good)
    with pytest.raises(DataError, match="not finite"):
        StructuredConv.from_dense(torch.full(SHAPE, torch.nan), good)
    with pytest.raises(StructureError, match="one index of one core"):
        StructuredConv.from_dense(torch.ones(6, 4, 3, 5), CHAINS["kronecker"], covariance_of_channels=torch.eye(4))
    with pytest.raises(StructureError, match="must be from 1 to 4"):
        tucker2(SHAPE, (3, 5))
    with pytest.raises(StructureError, match="3 numbers"):
        space_train(SHAPE, (3, 5))


def test_one_way_filters_are_a_kernel_of_products() -> None:
    layer = OneWayConv(8, 6, (3, 5), 4, padding="same", groups=2, dtype=torch.float64)
    assert layer.parameters_of_kernel == 4 * (6 + 4 + 3 + 5)
    x = inputs_for(layer, 2)
    torch.testing.assert_close(layer(x), dense_of(layer)(x))
    again = module_of(recipe_of(layer))
    assert isinstance(again, OneWayConv)
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x), layer(x))
    with pytest.raises(StructureError, match="3 groups do not divide 8"):
        OneWayConv(8, 6, (3, 3), 4, groups=3)
