from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from tenfold.errors import FileError, StructureError, TenfoldError
from tenfold.nn.adapters import Adapted, TuckerAdapter, adapt

LAYERS = {
    "linear": (lambda: nn.Linear(7, 9), (2, 3, 7), (3, 2)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9), 3),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), dilation=2, padding="same", padding_mode="circular"), (2, 4, 8, 7), 2),
    "conv3d": (lambda: nn.Conv3d(3, 4, 2, bias=False), (1, 3, 4, 4, 4), (2, 2, 1, 2, 2)),
    "groups": (lambda: nn.Conv2d(6, 8, 3, groups=2), (2, 6, 5, 5), 2),
}


def made(name: str) -> tuple[TuckerAdapter, torch.Tensor]:
    torch.manual_seed(0)
    layer, shape, rank = LAYERS[name]
    adapter = TuckerAdapter(layer().double(), rank, scale=0.5)
    return adapter, torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_changes_at_first_and_merging_changes_nothing(name: str) -> None:
    adapter, x = made(name)
    torch.testing.assert_close(adapter(x), adapter.base(x))
    nn.init.normal_(adapter.core)
    assert not torch.allclose(adapter(x), adapter.base(x))
    before, apart = adapter.base.weight.clone(), adapter(x)
    adapter.merge()
    torch.testing.assert_close(adapter(x), apart)
    torch.testing.assert_close(adapter.base(x), apart)
    adapter.unmerge()
    assert torch.equal(adapter.base.weight, before)


@pytest.mark.parametrize("name", LAYERS)
def test_the_change_has_the_ranks_asked_for(name: str) -> None:
    adapter, _ = made(name)
    nn.init.normal_(adapter.core)
    change = adapter.change()
    assert change.shape == adapter.base.weight.shape
    modes = (1, 0, *range(2, change.ndim))
    for mode, rank in zip(modes, adapter.ranks, strict=True):
        assert torch.linalg.matrix_rank(change.movedim(mode, 0).flatten(1)) <= rank


@pytest.mark.parametrize("name", ["linear", "conv2d"])
def test_gradients_are_right(name: str) -> None:
    adapter, x = made(name)
    nn.init.normal_(adapter.core)
    tensors = [adapter.core, *adapter.factors]
    names = ["core", *(f"factors.{n}" for n in range(len(adapter.factors)))]

    def output(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(adapter, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, tensors)
    assert not any(p.requires_grad for p in adapter.base.parameters())


def test_a_linear_change_is_a_lora() -> None:
    adapter, _ = made("linear")
    nn.init.normal_(adapter.core)
    down, up = adapter.to_lora()
    torch.testing.assert_close(up @ down, adapter.change())


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def test_training_changes_the_adapters_alone_and_they_are_saved_alone(tmp_path: Path) -> None:
    model = network()
    frozen = copy.deepcopy(model.state_dict())
    adapted = adapt(model, 2)
    assert "2 adapters" in repr(adapted)
    x, y = torch.randn(16, 1, 8, 8), torch.randn(16, 5)
    optimizer = torch.optim.Adam(adapted.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    adapted.save(tmp_path / "small.safetensors")
    again = Adapted.load(tmp_path / "small.safetensors", network())
    torch.testing.assert_close(again.model(x), model(x))
    assert (tmp_path / "small.safetensors").stat().st_size < 0.7 * sum(4 * t.numel() for t in frozen.values())
    wanted = model(x)
    plain = adapted.finish()
    assert type(plain[0]) is nn.Conv2d
    torch.testing.assert_close(plain(x), wanted)
    again.merge()
    again.unmerge()
    assert torch.equal(again.adapters["3"].base.weight, frozen["3.weight"])


def test_fused_attention_sees_the_change() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    adapted = adapt(model, 2)
    assert set(adapted.adapters) == {"linear1", "linear2"}
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        before = model(x)
        nn.init.normal_(adapted.adapters["linear1"].core)
        assert not torch.allclose(model(x), before)


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(TenfoldError, match="is not like encoder"):
        adapt(network(), 2, only=["encoder.*"])
    with pytest.raises(StructureError, match="at least 1"):
        adapt(network(), 0)
    with pytest.raises(TenfoldError, match="not a ReLU"):
        TuckerAdapter(nn.ReLU(), 1)
    (tmp_path / "none").write_bytes(b"none")
    with pytest.raises(FileError, match="truncated"):
        Adapted.load(tmp_path / "none", network())
    adapt(network(), 2).save(tmp_path / "some")
    with pytest.raises(TenfoldError, match="has no layer"):
        Adapted.load(tmp_path / "some", nn.Sequential())


@pytest.mark.peer
def test_peft_reads_them_as_lora(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    other = copy.deepcopy(model)
    adapted = adapt(model, (5, 3))
    for adapter in adapted.adapters.values():
        nn.init.normal_(adapter.core)
    adapted.save_lora(tmp_path / "lora")
    theirs = peft.PeftModel.from_pretrained(other, tmp_path / "lora")
    x = torch.randn(6, 12)
    torch.testing.assert_close(theirs(x), model(x))


def test_a_convolution_is_no_lora(tmp_path: Path) -> None:
    with pytest.raises(TenfoldError, match="convolution"):
        adapt(network(), 2).save_lora(tmp_path / "lora")


def test_one_name_may_be_given_without_a_list() -> None:
    assert list(adapt(network(), 2, only="3").adapters) == ["3"]
    assert "3" not in adapt(network(), 2, skip="3").adapters


def test_what_is_left_alone_has_a_reason() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
            self.head.weight = self.table.weight
            self.first = self.again = nn.Linear(4, 4)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
            self.old = nn.utils.spectral_norm(nn.Linear(4, 4))
            self.attention = nn.MultiheadAttention(4, 2)
            self.plain, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    adapted = adapt(Shared(), 2, skip=["other"])
    assert list(adapted.adapters) == ["plain"]
    assert adapted.left_alone == {
        "head": "shares its weight with 'table.weight'",
        "first": "shares its weight with 'again.weight'",
        "again": "shares its weight with 'first.weight'",
        "normed": "is a ParametrizedLinear",
        "old": "has a weight that is computed",
        "attention.out_proj": "is read by attention, which does not call it",
        "other": "is skipped",
    }


def test_adapters_do_not_go_around_adapters() -> None:
    model = network()
    adapt(model, 2, only="3")
    with pytest.raises(TenfoldError, match="finish"):
        adapt(model, 2)


def test_statistics_of_batch_norms_are_saved_where_they_changed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    other = copy.deepcopy(model).eval()
    adapted = adapt(model, 2)
    adapted.save(tmp_path / "before")
    assert torch.equal(Adapted.load(tmp_path / "before", copy.deepcopy(other)).model[1].running_mean, torch.zeros(6))
    x = torch.randn(20, 4) + 3
    model(x)
    nn.init.normal_(adapted.adapters["2"].core)
    adapted.save(tmp_path / "after")
    loaded = Adapted.load(tmp_path / "after", copy.deepcopy(other))
    torch.testing.assert_close(loaded.model(x), model.eval()(x))
    loaded.save(tmp_path / "resaved")
    with pytest.raises(FileError, match="does not fit"):
        Adapted.load(tmp_path / "after", nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(7), nn.Linear(6, 2)))


def test_training_while_merged_is_refused() -> None:
    model = network().requires_grad_(True)
    adapted = adapt(model, 2)
    x = torch.randn(2, 1, 8, 8)
    adapted.merge()
    with torch.no_grad():
        model(x)
    with pytest.raises(TenfoldError, match=r"unmerge\(\) first"):
        model(x).sum().backward()
    x.requires_grad_(True)
    assert torch.autograd.grad(model(x).sum(), x)[0].any()
    adapted.unmerge()
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())


def test_adapters_larger_than_the_weights_are_told() -> None:
    with pytest.warns(UserWarning, match="more than the 1,024 of the weights they change .* here to 32 at most"):
        adapt(nn.Sequential(nn.Linear(32, 32)), 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapt(nn.Sequential(nn.Linear(32, 32)), 4)


def test_an_adapter_is_in_the_mode_of_its_layer() -> None:
    model = network().eval()
    adapted = adapt(model, 2, dropout=0.5)
    assert not any(module.training for module in adapted.model.modules())


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("into", [False, True])
def test_a_state_tells_whether_it_is_merged(merged: bool, into: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, other = nn.Sequential(nn.Linear(8, 5)), nn.Sequential(nn.Linear(8, 5))
    before = source[0].weight.clone()
    trained, target = adapt(source, 2), adapt(other, 2)
    for adapter in (*trained.adapters.values(), *target.adapters.values()):
        nn.init.normal_(adapter.core)
    x = torch.randn(3, 8)
    wanted = source(x)
    if merged:
        trained.merge()
    if into:
        target.merge()
    save_model(source, str(tmp_path / "model"))
    other.load_state_dict(load_file(tmp_path / "model"))
    torch.testing.assert_close(other(x), wanted)
    torch.testing.assert_close(torch.func.functional_call(other, source.state_dict(), (x,)), wanted)
    target.unmerge()
    assert torch.equal(other[0].base.weight, before)
    torch.testing.assert_close(other(x), wanted)
    target.merge()
    target.save(tmp_path / "adapters")
    with torch.no_grad():
        source[0].base.weight.copy_(before)
    again = nn.Sequential(nn.Linear(8, 5))
    again.load_state_dict({"0.weight": before, "0.bias": source[0].base.bias})
    torch.testing.assert_close(Adapted.load(tmp_path / "adapters", again).model(x), wanted)


def test_files_of_other_shapes_and_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapters"
    # Shapes that numbers could be broadcast to.
    adapt(nn.Sequential(nn.Conv2d(1, 4, 3)), 1).save(path)
    with pytest.raises(FileError, match=r"takes \(3, 1\)"):
        Adapted.load(path, nn.Sequential(nn.Conv2d(3, 4, 3)))
    for header in ('{"version": 99, "adapters": {}}', '{"version": 1, "adapters": []}', '{"adapters": {}}', "[]"):
        save_file({}, path, metadata={"tenfold.adapters": header})
        with pytest.raises(FileError):
            Adapted.load(path, nn.Sequential(nn.Linear(8, 8)))
