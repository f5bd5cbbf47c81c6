"""Models, data and budgets that are not as one expects them."""

from __future__ import annotations

import copy
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

import tenfold as tn
from tenfold.compression import forward as usual_forward
from tenfold.errors import DataError, TenfoldError
from tenfold.models import digits
from tenfold.verbs.compress import _budget


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 32))


def inputs(batches: int = 3, rows: int = 40) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(rows, 32, generator=generator) for _ in range(batches)]


class Holds(nn.Module):
    """Two layers, used as a function says."""

    def __init__(self, run, **more) -> None:
        super().__init__()
        self.first, _, self.second = mlp()
        self.run = run
        for name, value in more.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.run(self, x)


def done(model: nn.Module, **more) -> tn.verbs.compressed.Compressed:
    return tn.compress(model, **{"size": 0.5, "data": inputs(), "progress": False, **more})


def test_layers_that_are_called_by_keyword_are_replaced() -> None:
    found = done(Holds(lambda m, x: m.second(input=m.first(input=x))), size=0.35)
    assert found.size <= 0.35
    assert found.after.difference is not None
    assert found.after.difference < 0.1


def test_a_layer_whose_weight_the_model_reads_keeps_as_it_was() -> None:
    model = Holds(lambda m, x: m.second(m.first(x.to(m.first.weight.dtype))))
    found = done(model, size=0.7)
    assert found.layers[0].after.candidate is None
    assert found.layers[1].after.candidate is not None
    assert any("'first' keeps as it was" in one and "weight" in one for one in found.warnings)


def test_a_layer_that_is_called_behind_the_models_back_keeps_as_it_was() -> None:
    model = Holds(lambda m, x: m.second(m.hidden[0](x)))
    model.hidden = [model.first]
    found = done(model, size=0.7)
    assert found.layers[0].after.candidate is None
    assert any("another way than its name" in one for one in found.warnings)
    assert found.after.difference


def test_each_module_keeps_its_own_mode_also_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*mlp(), nn.Dropout(0.5)).eval()
    model[3].train()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    layers = list(model)
    done(model)
    assert [m.training for m in model.modules()] == [False, False, False, False, True]
    left = 0

    def stops(given: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return usual_forward(given, batch)

    for when in (2, 5, 8, 12, 16):
        left = when
        with pytest.raises(KeyboardInterrupt):
            done(model, forward=stops)
        assert [m.training for m in model.modules()] == [False, False, False, False, True]
        assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
        assert all(a is b for a, b in zip(model, layers, strict=True))
        assert torch.backends.mha.get_fastpath_enabled()


def test_a_compiled_model_is_taken_for_what_it_was_made_from() -> None:
    found = done(torch.compile(mlp(), backend="eager"))
    assert [layer.name for layer in found.layers] == ["0", "2"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_kinds_of_numbers(dtype: torch.dtype) -> None:
    model = mlp().to(dtype)
    found = done(model, data=[x.to(dtype) for x in inputs()], size=0.6)
    assert found.size <= 0.6
    assert found.model(inputs()[0].to(dtype)).dtype == dtype


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_weights_of_any_size(scale: float) -> None:
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(scale)
        model[2].weight.mul_(1 / max(scale, 1.0))
    found = done(model, size=0.5)
    assert found.size <= 0.5
    assert found.after.difference is not None
    assert found.after.difference < 0.1


def test_complex_outputs_count_in_both_parts() -> None:
    class Both(nn.Sequential):
        def forward(self, x):
            return torch.complex(x, super().forward(x))

    found = done(Both(*mlp()))
    assert found.after.difference is not None
    assert 0 < found.after.difference < 0.1


def test_inputs_that_never_vary_and_empty_batches() -> None:
    found = done(mlp(), data=[torch.ones(50, 32), torch.empty(0, 32)])
    assert found.after.difference is not None
    assert found.after.difference < 1e-3


def test_too_few_inputs_are_told() -> None:
    found = done(mlp(), data=[torch.randn(1, 32)])
    assert any("little data: 1 input of 48 numbers" in one for one in found.warnings)
    assert not any("little data" in one for one in done(mlp()).warnings)


def test_bias_and_hooks_of_layers_are_left_alone() -> None:
    model = mlp()
    model[0].register_state_dict_post_hook(lambda *_: None)
    model[2].forward = model[2].forward
    with pytest.raises(TenfoldError, match=r"no layer to replace.*hooks.*forward was replaced"):
        done(model)
    model = mlp()
    model[0].register_buffer("more", torch.zeros(3))
    assert "holds more than weight and bias (more)" in done(model, size=0.8).left_alone[0].why


def test_the_program_holds_no_examples(tmp_path) -> None:
    found = tn.compress(digits.digits(), size=0.3, data=digits.batches()[:1], methods=["int8"], progress=False)
    found.save(tmp_path / "small.tn")
    found.export(tmp_path / "small.pt2")
    assert (tmp_path / "small.pt2").stat().st_size < (tmp_path / "small.tn").stat().st_size + 100_000


def no_output(model: nn.Module, x: torch.Tensor) -> None:
    model(x)


def worse(model: nn.Module) -> float:
    """A loss: lower is better."""
    with torch.no_grad():
        return float((model(inputs()[0]) - mlp()(inputs()[0])).square().mean()) + 1e-3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data": torch.randn(4, 32)}, "batches, as a list of them, not one 'Tensor'"),
        ({"data": {"x": torch.randn(4, 32)}}, "batches, as a list of them"),
        ({"data": 3}, "batches, as a list of them"),
        ({"data": [torch.randn(4, 31)]}, "does not run on batch 1 of the data.*31"),
        ({"data": [torch.empty(0, 32)]}, "batches are empty"),
        ({"skip": ["encoder.*"]}, "skip: no layer's name matches 'encoder"),
        ({"only": "9"}, "only: no layer's name matches '9'"),
        ({"data": (torch.randn(4, 32), torch.zeros(4, dtype=torch.long))}, r"was \[\(X, y\)\] meant"),
        ({"forward": no_output}, "NoneType, holds no floating-point tensor.*must return a tensor"),
        ({"forward": "call"}, "forward must be a function"),
        ({"evaluate": 0.9}, "evaluate must be a function of the model that returns a number"),
        ({"evaluate": lambda model, x: 0.9}, "with the model alone.*'x'"),
        ({"evaluate": lambda _: 0, "size": None, "error": 0.1}, "no relative loss"),
        ({"skip": ["0"], "size": 0.2}, r"what stays as it is: 0.\d+ in '0' \(skipped, as asked\)$"),
        ({"skip": ["0"], "size": None, "latency": 0.01}, r"stays as it is: .*in '0' \(skipped, as asked\)"),
        ({"evaluate": lambda _: None}, "must return a number"),
        ({"evaluate": lambda _: float("inf")}, "returned inf"),
        ({"evaluate": worse, "size": None, "error": 0.1}, "larger must be better"),
    ],
)
def test_what_cannot_be_is_told(arguments: dict, says: str) -> None:
    with pytest.raises(TenfoldError, match=says):
        done(mlp(), **arguments)


def test_models_that_cannot_be_copied_or_taken_apart_are_told_at_once() -> None:
    model = mlp()
    model.lock = threading.Lock()
    ran = 0

    def counts(given: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        nonlocal ran
        ran += 1
        return given(batch)

    with pytest.raises(TenfoldError, match="cannot be copied"):
        done(model, forward=counts)
    assert ran == 0
    with pytest.warns(DeprecationWarning, match="jit"):
        traced = torch.jit.trace(mlp(), inputs()[0])
    with pytest.raises(TenfoldError, match="program of TorchScript"):
        done(traced)
    with pytest.raises(TenfoldError, match=r"the whole model; give torch.nn.Sequential"):
        done(nn.Linear(32, 32))


def test_an_error_that_nothing_keeps_leaves_all_as_it_was() -> None:
    model = mlp()
    found = done(copy.deepcopy(model), size=None, error=1e-12)
    assert found.size == 1
    assert any("keeps an error of 1e-12" in one for one in found.warnings)
    with pytest.raises(DataError, match="does not run on batch 2"):
        done(model, data=[*inputs(1), "x"])
    with pytest.raises(DataError, match="raised KeyError after 1 batches"):
        done(model, data=({0: x}[n] for n, x in enumerate(inputs())))


def test_fine_tuning_that_does_not_help_is_dropped() -> None:
    plain = done(mlp(), methods=["low_rank"], bits=())
    tuned = done(mlp(), methods=["low_rank"], bits=(), finetune=1, learning_rate=10.0)
    assert any("did not help and was dropped: a relative difference of" in one for one in tuned.warnings)
    assert tuned.after.difference == pytest.approx(plain.after.difference)
    torch.testing.assert_close(tuned.model(inputs()[0]), plain.model(inputs()[0]))
    better = done(mlp(), methods=["low_rank"], bits=(), finetune=5, learning_rate=1e-3)
    assert not any("fine-tuning" in one for one in better.warnings)
    assert better.after.difference < plain.after.difference

    def spoils(model: nn.Module) -> None:
        for p in model.parameters():
            p.data.zero_()

    mine = done(mlp(), finetune=spoils)
    assert any("finetune made the model worse" in one for one in mine.warnings)
    assert mine.after.difference > mine.untuned.difference


def test_arrays_of_numpy_are_taken() -> None:
    batches = [(x.double().numpy(), np.zeros(len(x))) for x in inputs()]
    found = done(mlp(), data=batches, bits=(8,))
    assert found.after.difference == pytest.approx(done(mlp(), bits=(8,)).after.difference, rel=1e-3)


def test_a_small_model_that_is_slower_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    verb = sys.modules["tenfold.verbs.compress"]
    monkeypatch.setattr(verb, "seconds", lambda calls, **_: [1.0 + number for number in range(len(calls))])
    assert any("slower than before: give a budget of time too" in one for one in done(mlp()).warnings)
    # What the note tells to do can be done.
    assert _budget(0.5, 1.0, None) == {"size": 0.5, "latency": 1.0}


@pytest.mark.parametrize("by", ["evaluate", "forward"])
def test_code_that_leaves_the_model_in_training_mode_changes_nothing(by: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 32)).eval()
    before = copy.deepcopy(model.state_dict())

    def evaluate(one: nn.Module) -> float:
        one.eval()
        score = -float(one(inputs()[0]).square().mean())
        one.train()
        return score

    def forward(one: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        made = one(batch)
        one.train()
        return made

    found = done(model, **{by: {"evaluate": evaluate, "forward": forward}[by]})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in (*found.model.modules(), *model.modules()))
    assert found.after.difference == pytest.approx(done(model).after.difference)


@pytest.mark.parametrize("kind", [torch.Tensor, dict])
def test_a_model_that_changes_its_input_sees_the_same_at_each_pass(kind: type) -> None:
    model = Holds(lambda m, x: m.second(torch.relu(m.first(x.sub_(0.5).mul_(1.1)))))
    plain = Holds(lambda m, x: m.second(torch.relu(m.first((x - 0.5) * 1.1))))
    data = [{"x": x} if kind is dict else x for x in inputs()]
    found = done(model, data=data)
    tensors = [one["x"] if isinstance(one, dict) else one for one in data]
    assert all(torch.equal(x, y) for x, y in zip(tensors, inputs(), strict=True))
    assert found.after.difference == pytest.approx(done(plain).after.difference, rel=1e-3)


def test_a_layer_that_copies_still_run_in_the_original_keeps_as_it_was() -> None:
    model = Holds(lambda m, x: m.call(torch.relu(m.first(x))))
    model.call = lambda x: model.second(x)
    found = done(model, size=0.7)
    assert [one.name for one in found.layers] == ["first"]
    assert any(one.name == "second" and "copies" in one.why for one in found.left_alone)
    assert any("'second'" in one for one in found.warnings)


def test_frozen_layers_stay_frozen_and_torchs_random_numbers_as_they_were() -> None:
    model = mlp()
    model[0].requires_grad_(False)
    floating = {"methods": ["low_rank"], "bits": ()}
    plain = done(model, **floating).model.state_dict()
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    found = done(model, **floating, finetune=5, learning_rate=1e-3)
    assert torch.equal(torch.rand(3), wanted)
    assert not any(p.requires_grad for p in found.model[0].parameters())
    changed = {name[0] for name, value in found.model.state_dict().items() if not torch.equal(value, plain[name])}
    assert changed == {"2"}
    with pytest.raises(TenfoldError, match="nothing to train"):
        done(model.requires_grad_(False), finetune=1)


def test_a_forward_that_takes_a_batch_apart_finds_it_whole_each_time() -> None:
    data = [{"x": x, "y": x[:, :2]} for x in inputs()]

    def forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        batch.pop("y")
        return model(batch["x"])

    assert done(mlp(), data=data, forward=forward).after.difference
    assert all(set(one) == {"x", "y"} for one in data)
