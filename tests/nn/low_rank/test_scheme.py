"""What all schemes have in common: which layers they take, any optimizer, checkpoints, plain modules at the end."""

from __future__ import annotations

import io
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tenfold.errors import DataError, TenfoldError
from tenfold.nn.low_rank import DLRT, TDLRT, Maestro, Scheme, TrainedRankPruning

Make = Callable[..., Scheme]
SCHEMES: dict[str, Make] = {
    "DLRT": lambda model, **options: DLRT(model, lr=0.1, tolerance=0.3, **options),
    "DLRT of fixed rank": lambda model, **options: DLRT(model, rank=3, tolerance=None, **options),
    "TDLRT": lambda model, **options: TDLRT(model, lr=0.1, tolerance=0.8, kernel=True, **options),
    "TDLRT of fixed rank": lambda model, **options: TDLRT(model, tolerance=None, **options),
    "TrainedRankPruning": lambda model, **options: TrainedRankPruning(model, tolerance=0.5, **options),
    "spatial": lambda model, **options: TrainedRankPruning(model, tolerance=0.5, unfolding="spatial", **options),
    "Maestro": lambda model, **options: Maestro(model, tolerance=0.3, **options),
}
each = pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 10, (3, 2), stride=2, dilation=(1, 2), padding=1, padding_mode="circular"),
            nn.ReLU(),
            nn.Conv2d(10, 8, 3, padding="same", bias=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 12),
            nn.ReLU(),
            nn.Linear(12, 4),
        )


def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(10, 3, 8, 8, generator=generator), torch.randint(4, (10,), generator=generator)


def trained(model: nn.Module, scheme: Scheme, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    inputs, labels = pictures()
    losses = []
    for step in range(steps):
        losses.append(float(scheme.step(lambda: cross_entropy(model(inputs), labels), optimizer)))
        if step % 2:
            scheme.epoch()
    return losses


@each
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_training_lowers_the_loss_and_finishing_changes_nothing(make: Make, kind: str) -> None:
    model = network()
    scheme = make(model, skip="10")
    options = {"lr": 0.05, "momentum": 0.5} if kind == "SGD" else {"lr": 0.01}
    optimizer = getattr(torch.optim, kind)(model.parameters(), **options)
    losses = trained(model, scheme, optimizer, 8)
    assert losses[-1] < losses[0]
    assert "10" in scheme.left_alone
    ranks, shown = scheme.ranks, str(scheme)
    for name in scheme.ranks:
        assert name in shown
    bias = model[3].bias
    if isinstance(scheme, TrainedRankPruning):
        scheme.project()
        ranks = scheme.ranks
    model.eval()
    inputs = pictures()[0]
    expected = model(inputs)
    assert scheme.finish() is model
    assert torch.allclose(model(inputs), expected, atol=1e-5)
    kinds = {type(module) for module in model.modules()}
    assert all(kind.__module__.startswith("torch.nn.modules") for kind in kinds)
    assert not any(module.training for module in model.modules())
    assert any(parameter is bias for parameter in model.parameters())
    if isinstance(ranks["3"], int):
        assert model[3][0].out_channels == ranks["3"]
    with pytest.raises(TenfoldError, match="training in low rank was finished"):
        scheme.step(lambda: model(inputs).sum(), optimizer)
    # What is left is a model like any other.
    model.train()
    model(inputs).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@each
def test_interrupted_is_as_never_interrupted(make: Make) -> None:
    def begin() -> tuple[nn.Module, Scheme, torch.optim.Optimizer]:
        model = network()
        scheme = make(model, skip="10")
        return model, scheme, torch.optim.Adam(model.parameters(), lr=0.01)

    model, scheme, optimizer = begin()
    first = scheme.ranks
    trained(model, scheme, optimizer, 4)
    if make in (SCHEMES["DLRT"], SCHEMES["TDLRT"], SCHEMES["Maestro"]):
        assert scheme.ranks != first  # what is loaded has other shapes than what is there
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (model, scheme, optimizer)], file)
    file.seek(0)
    straight = trained(model, scheme, optimizer, 4)
    again = begin()
    states = torch.load(file, weights_only=True)
    for part, state in zip(again, states, strict=True):
        part.load_state_dict(state)
    assert trained(*again, 4) == straight
    assert again[1].ranks == scheme.ranks
    inputs = pictures()[0]
    assert torch.equal(again[0](inputs), model(inputs))
    with pytest.raises(TenfoldError, match="state is of method Other, this scheme of"):
        scheme.load_state_dict(scheme.state_dict() | {"method": "Other"})


@each
def test_autocast_and_scaler(make: Make) -> None:
    model = network()
    scheme = make(model, skip="10")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    inputs, labels = pictures()

    def loss() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(inputs)
        assert found.dtype == torch.bfloat16
        return cross_entropy(found.float(), labels)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the whole loop may be under it
        losses = [float(scheme.step(loss, optimizer, scaler=scaler)) for _ in range(6)]
        scheme.epoch()
    assert losses[-1] < losses[0]
    assert {p.dtype for p in model.parameters()} | {b.dtype for b in model.buffers()} == {torch.float32, torch.int64}
    scheme.finish()
    assert bool(model(inputs).isfinite().all())


@pytest.mark.parametrize("make", [SCHEMES["DLRT"], SCHEMES["TDLRT"], SCHEMES["TrainedRankPruning"]])
def test_a_scaler_changes_nothing_but_rounding(make: Make) -> None:
    inputs, labels = pictures()
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        model = network().double()
        scheme = make(model, skip="10")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(3):
            scheme.step(lambda m=model: cross_entropy(m(inputs.double()), labels), optimizer, scaler=scaler)
        results.append(model(inputs.double()))
    assert torch.allclose(*results, atol=1e-9)


@each
@pytest.mark.parametrize("kind", ["LBFGS", "RMSprop", "Adagrad", "NAdam"])
def test_other_optimizers(make: Make, kind: str) -> None:
    model = network()
    scheme = make(model)
    options: dict[str, Any] = {"lr": 0.01} if kind != "LBFGS" else {"lr": 0.1, "max_iter": 3}
    optimizer = getattr(torch.optim, kind)(model.parameters(), **options)
    inputs, labels = pictures()
    losses = [float(scheme.step(lambda: cross_entropy(model(inputs), labels), optimizer)) for _ in range(5)]
    assert losses[-1] < losses[0]


class Odd(nn.Module):
    """What real models have."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Linear(8, 8)
        self.conv = nn.Conv2d(8, 8, 3)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.twice = nn.Linear(8, 8)
        self.again = self.twice
        self.embedding = nn.Embedding(8, 8)
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.embedding.weight
        self.half = nn.Linear(8, 8).bfloat16()
        self.hooked = nn.Linear(8, 8)
        self.hooked.register_forward_hook(lambda *_: None)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.narrow = nn.Linear(8, 1)
        self.empty = nn.Linear(0, 8)
        self.up = nn.ConvTranspose2d(8, 8, 3)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.broken = nn.Linear(8, 8)
        nn.init.constant_(self.broken.weight, torch.nan)
        self.transposed = nn.Linear(8, 8)
        self.transposed.weight = nn.Parameter(torch.randn(8, 8).T)


def test_layers_that_cannot_be_trained_say_why() -> None:
    model = Odd()
    scheme = DLRT(model)
    assert set(scheme.ranks) == {"plain", "conv", "transposed", "block.linear1", "block.linear2"}
    assert scheme.left_alone == {
        "frozen": "is frozen",
        "grouped": "has 2 groups",
        "twice": "is the same module as 'again'",
        "again": "is the same module as 'twice'",
        "tied": "its weight is shared with 'embedding.weight'",
        "half": "has dtype bfloat16: keep float32 and train under autocast",
        "hooked": "has hooks",
        "normed": "is ParametrizedLinear, not Linear or Conv1d or Conv2d or Conv3d",
        "narrow": "factors of rank 1 are as large as its weight",
        "empty": "has size zero",
        "up": "is ConvTranspose2d, not Linear or Conv1d or Conv2d or Conv3d",
        "block.self_attn.out_proj": "is NonDynamicallyQuantizableLinear, not Linear or Conv1d or Conv2d or Conv3d",
        "broken": "its weight is not finite",
    }
    assert "left alone: has 2 groups" in " ".join(str(scheme).split())
    assert model.tied.weight is model.embedding.weight
    assert model.plain.weight.shape == (8, 8)


@pytest.mark.parametrize("method", [DLRT, TrainedRankPruning, Maestro])
def test_a_transformer_does_not_take_its_shortcut_past_the_factors(method: Callable[[nn.Module], Scheme]) -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 24, 0.0, batch_first=True), 1).eval()
    inputs = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    scheme = method(model)
    assert list(scheme.ranks) == ["layers.0.linear1", "layers.0.linear2"]
    if isinstance(scheme, TrainedRankPruning):
        scheme.project()
    with torch.no_grad():
        expected = model(inputs)
        assert torch.allclose(scheme.finish()(inputs), expected, atol=1e-5)


def test_names_are_chosen_by_globs() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    scheme = DLRT(model, only="1.*", skip=["1.1"])
    assert list(scheme.ranks) == ["1.0"]
    assert scheme.left_alone == {"0": "not among those asked for", "1.1": "skipped"}
    with pytest.raises(TenfoldError, match=r"skip 'head' matches no layer; there are 0, 1\.0, 1\.1"):
        Maestro(nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))), skip="head")
    with pytest.raises(TenfoldError, match="no layer to train in low rank: '': is the model itself: put it into"):
        DLRT(nn.Linear(8, 8))
    with pytest.raises(TenfoldError, match="no linear map and no convolution"):
        DLRT(nn.Sequential(nn.ReLU()))


@each
def test_gradients_are_taken_by_the_step_alone(make: Make) -> None:
    model = network()
    scheme = make(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = pictures()[0]

    def backward() -> Tensor:
        loss: Tensor = model(inputs).sum()
        loss.backward(retain_graph=True)
        return loss

    wanted = r"scheme\.step\(lambda: loss_fn\(model\(x\), y\), optimizer\)"
    for _ in range(2):
        with pytest.raises(TenfoldError, match=f"must not call backward.*{wanted}"):
            scheme.step(backward, optimizer)
        with pytest.raises(TenfoldError, match=f"not a Tensor: {wanted}"):
            scheme.step(model(inputs).sum(), optimizer)
        scheme.step(lambda: model(inputs).sum(), optimizer)


@each
def test_losses_that_cannot_be_used(make: Make) -> None:
    model = network()
    scheme = make(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = pictures()[0]
    with pytest.raises(TenfoldError, match="closure must return the loss, one number"):
        scheme.step(lambda: model(inputs), optimizer)
    with pytest.raises(TenfoldError, match="closure must return the loss"):
        scheme.step(lambda: model(inputs).sum().detach(), optimizer)
    with pytest.raises(DataError, match="the loss is not finite"):
        scheme.step(lambda: model(inputs * torch.nan).sum(), optimizer)

    def broken() -> Tensor:
        model(inputs)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        scheme.step(broken, optimizer)
    # The model is none the worse for it.
    assert torch.isfinite(scheme.step(lambda: model(inputs).square().mean(), optimizer))


@each
def test_a_layer_that_is_not_reached_stays(make: Make) -> None:
    model = nn.ModuleList([nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3)])
    scheme = make(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    before = model[1](inputs)
    scheme.step(lambda: model[0](inputs).square().sum(), optimizer)
    assert torch.allclose(model[1](inputs), before, atol=1e-6)


@each
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions_of_any_order(make: Make, axes: int) -> None:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    model = nn.Sequential(kind(5, 6, 3, padding=1, padding_mode="replicate"), kind(6, 6, 3))
    if make is SCHEMES["spatial"] and axes != 2:
        with pytest.raises(TenfoldError, match=f"is Conv{axes}d, not Conv2d"):
            make(model)
        return
    scheme = make(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 5, *[5] * axes, generator=generator)
    for _ in range(2):
        scheme.step(lambda: model(inputs).square().mean(), optimizer)
    copy = deepcopy(model)  # as for a running mean of weights
    if isinstance(scheme, TrainedRankPruning):
        scheme.project()
        copy = deepcopy(model)
    scheme.finish()
    assert torch.allclose(model(inputs), copy(inputs), atol=1e-5)
    assert model(inputs[0]).shape == model(inputs)[0].shape  # without a batch, and with an empty one
    assert model(inputs[:0]).shape == (0, *model(inputs).shape[1:])
