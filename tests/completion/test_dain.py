"""DAIN: influence is what it is defined as, cells are drawn by it, and networks learn from them."""

from __future__ import annotations

import pytest
import torch
from completion.test_neural import continuous, planted, same
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tenfold.completion import State, Step, Task, find
from tenfold.completion._ensemble import Places, Settings, Shape, Training, activations, outputs
from tenfold.completion.dain import draw, entity_importance
from tenfold.errors import TenfoldError

SMALL = {"widths": (16, 8), "members": 2, "rank": 4}
SHAPE = Shape((12, 12, 12), (False,) * 3, 4, (16, 8), 2)


def run(task: Task, **options):
    return find("dain").function(task, **options)


def training(task: Task, rate: float = 1e-2) -> Training:
    return Training(task, SHAPE, Settings(rate=rate, batch=64, patience=10, validation=0.2), seed=0)


def test_influence_of_a_frozen_model_is_the_inner_product_of_its_gradients() -> None:
    task, _, _ = planted(count=60)
    frozen = training(task, rate=1e-30)
    frozen.epoch(0.0)

    def gradient(member: int, row: int) -> Tensor:
        weights = {name: value.detach() for name, value in frozen.weights.items()}
        weights["weight2"] = weights["weight2"].clone().requires_grad_(True)
        places = Places.of(task.coordinates[row : row + 1], SHAPE)
        told = outputs(weights, activations(weights, places, SHAPE), SHAPE)[member, 0]
        loss = (told - frozen.values[member, row]).square() / 2
        return torch.autograd.grad(loss, weights["weight2"])[0][member, :, 0].double()

    for member in range(2):
        total = sum(gradient(member, row) for row in frozen.left_out[member].tolist())
        expected = torch.zeros(len(task), dtype=torch.float64)
        for row in frozen.learned[member].tolist():
            expected[row] = gradient(member, row) @ total
        largest = float(expected.abs().max())
        assert float((frozen.influence[member] - expected).abs().max()) < 1e-6 * max(largest, 1)
        assert float(frozen.influence[member][frozen.left_out[member]].abs().max()) == 0


def plain_influence(task: Task, like: Training, epochs: int) -> tuple[Tensor, Tensor]:
    """The same training written plainly, one network at a time, all gradients of all epochs stored."""
    rows = len(task)
    codes = task.coordinates.long() + torch.tensor([0, 12, 24])
    found = torch.zeros(2, rows, dtype=torch.float64)
    heldout = torch.zeros(2, dtype=torch.float64)
    orders = []
    generator = torch.Generator()
    generator.set_state(like.generator.get_state())
    for _ in range(epochs):
        noise = torch.rand(like.learned.shape, generator=generator)
        orders.append(like.learned.gather(1, noise.argsort(1)))
    for member in range(2):
        weights = {
            name: value.detach().unflatten(0, (2, -1))[member].reshape(value.shape[-2:] if value.ndim == 3 else (36, 4))
            for name, value in like.weights.items()
        }
        parameters = {name: torch.nn.Parameter(value.clone()) for name, value in weights.items()}
        optimiser = torch.optim.Adam(parameters.values(), lr=1e-2, fused=False)
        values = like.values[member]

        def forward(chosen: Tensor, parameters=parameters) -> tuple[Tensor, Tensor]:
            hidden = functional.embedding(codes[chosen], parameters["embedding"]).flatten(1)
            for layer in range(2):
                hidden = (hidden @ parameters[f"weight{layer}"] + parameters[f"bias{layer}"]).relu()
            return hidden, (hidden @ parameters["weight2"] + parameters["bias2"])[:, 0]

        stored = torch.zeros(epochs, rows, 8, dtype=torch.float64)
        losses = []
        left = like.left_out[member]
        for epoch in range(epochs):
            with torch.no_grad():
                hidden, told = forward(left)
                stored[epoch, left] = ((told - values[left])[:, None] * hidden).double()
            count = len(orders[epoch][member])
            pieces = -(-count // 64)
            for piece in range(pieces):
                chosen = orders[epoch][member][count * piece // pieces : count * (piece + 1) // pieces]
                hidden, told = forward(chosen)
                residual = told - values[chosen]
                stored[epoch, chosen] = (residual[:, None] * hidden).detach().double()
                optimiser.zero_grad()
                residual.square().mean().backward()
                optimiser.step()
            with torch.no_grad():
                losses.append(float((forward(left)[1] - values[left]).square().mean()))
        best = losses.index(min(losses)) + 1
        heldout[member] = min(losses)
        pull = stored[:best][:, left].sum(1)
        scores = torch.einsum("tnw,tw->n", stored[:best], pull)
        found[member, like.learned[member]] = scores[like.learned[member]]
    return found, heldout


def test_streamed_influence_is_that_of_stored_gradients() -> None:
    task, _, _ = planted(count=300)
    streamed = training(task)
    expected, held = plain_influence(task, streamed, 8)
    for _ in range(8):
        streamed.epoch(0.0)
    torch.testing.assert_close(streamed.best_held, held, rtol=1e-4, atol=0)
    scale = float(expected.abs().max())
    assert float((streamed.best_influence - expected).abs().max()) < 1e-4 * scale


def test_influence_stops_at_the_best_epoch() -> None:
    task, _, _ = planted(count=100, noise=2.0)
    streamed = training(task, rate=3e-2)
    seen = []
    for _ in range(12):
        streamed.epoch(0.0)
        seen.append(streamed.influence.clone())
    held = streamed.best_held
    assert bool((held < streamed._validate()[0]).all())  # the last epoch is not the best of any member
    for member in range(2):
        assert any(torch.equal(streamed.best_influence[member], one[member]) for one in seen[:-1])


@given(st.integers(0, 50), st.sampled_from(["abs", "positive"]), st.integers(1, 40))
def test_importances_of_levels_are_distributions(seed: int, sign: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    importance = torch.randn(rows, generator=generator, dtype=torch.float64)
    level = torch.randint(5, (rows,), generator=generator)
    coordinates = torch.stack([level.double(), torch.rand(rows, generator=generator, dtype=torch.float64)], 1)
    shape = Shape((7, 4), (False, True), 2, (3,), 1)
    entities = entity_importance(importance, coordinates, shape, sign=sign)
    for one in entities:
        assert float(one.sum()) == pytest.approx(1)
        assert float(one.min()) >= 0
    assert float(entities[0][5:].sum()) == 0  # levels of which nothing was observed
    if sign == "abs":
        expected = torch.stack([importance.abs()[level == one].sum() for one in range(7)]) / importance.abs().sum()
        torch.testing.assert_close(entities[0], expected)


def test_cells_are_drawn_by_importance() -> None:
    shape = Shape((3, 5), (False, True), 2, (3,), 1)
    entities = (torch.tensor([0.0, 0.25, 0.75]).double(), torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0]).double())
    cells = draw(entities, 40_000, shape, seed=0)
    share = torch.bincount(cells[:, 0].long(), minlength=3) / len(cells)
    torch.testing.assert_close(share.double(), entities[0], atol=0.01, rtol=0)
    nearest = (cells[:, 1] * 4).round().long()
    share = torch.bincount(nearest, minlength=5) / len(cells)
    torch.testing.assert_close(share.double(), entities[1], atol=0.01, rtol=0)
    inside = cells[nearest == 1, 1]
    assert float(inside.min()) < 0.13  # anywhere about the knot at 0.25
    assert float(inside.max()) > 0.37
    assert torch.equal(cells, draw(entities, 40_000, shape, seed=0))


def test_no_cell_comes_twice() -> None:
    shape = Shape((6, 6), (False, False), 2, (3,), 1)
    even = (torch.ones(6).double() / 6,) * 2
    seen = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    cells = draw(even, 500, shape, seed=0, apart=seen)
    together = torch.cat([cells, seen[:2]])
    assert len(torch.unique(together, dim=0)) == len(together) == 36  # all cells there are, once each


def test_clean_levels_have_other_importance_than_noisy_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    size = 100
    factors = [torch.randn(size, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
    cells = torch.unique(torch.randint(size, (6000, 3), generator=generator), dim=0)
    values = torch.stack([factor[cells[:, mode]] for mode, factor in enumerate(factors)]).prod(0).sum(1)
    clean = cells[:, 0] < size // 10
    noise = torch.randn(len(values), generator=generator, dtype=torch.float64)
    values = values / values.std() + torch.where(clean, 0.0, 2.0) * noise
    model = run(Task(cells.double(), values, (size,) * 3), epochs=15, **SMALL)
    count = torch.bincount(cells[:, 0], minlength=size)
    importance = model.entities[0] / count
    tested = importance[: size // 10].mean() - importance[size // 10 :].mean()
    drawn = []
    for _ in range(999):
        mixed = importance[torch.randperm(size, generator=generator)]
        drawn.append(float(mixed[: size // 10].mean() - mixed[size // 10 :].mean()))
    extreme = sum(abs(one) >= abs(float(tested)) for one in drawn)
    assert (extreme + 1) / 1000 < 0.05


def test_added_cells_are_unseen_and_learned() -> None:
    task, cells, values = planted()
    model = run(task, members=2)
    together = torch.cat([model.cells, torch.unique(task.coordinates, dim=0)])
    assert len(torch.unique(together, dim=0)) == len(together)
    assert 0 < len(model.cells) <= round(0.5 * 0.8 * len(task))
    assert float((model.predict(cells).mean - values).square().mean().sqrt()) < 0.5
    assert model.importance.shape == (len(task),)
    again = run(task, members=2, dedup=False, epochs=1)
    assert len(again.cells) == round(0.5 * round(0.8 * len(task)))


@pytest.mark.parametrize("make", [planted, continuous])
@pytest.mark.parametrize("predictor", ["network", "neural"])
def test_interrupted_and_resumed_is_as_never_interrupted(make, predictor: str) -> None:
    task, cells, _ = make(count=150)
    states: dict[int, State] = {}

    def keep(step: Step) -> None:
        assert step.epochs == 6
        states[step.epoch] = step.state()

    options = {"epochs": 3, "predictor": predictor, **SMALL}
    whole = run(task, callback=keep, **options)
    assert list(states) == [1, 2, 3, 4, 5, 6]
    for epoch in (2, 3, 5):
        resumed = run(task, resume=states[epoch], **options)
        same(resumed, whole, cells)
        assert torch.equal(resumed.cells, whole.cells)
        assert torch.equal(resumed.importance, whole.importance)
    same(find("dain").restore(states[6]), whole, cells)


def test_a_state_makes_the_same_model_again() -> None:
    task, cells, _ = planted()
    model = run(task, epochs=2, **SMALL)
    again = find("dain").restore(model.state())
    same(again, model, cells)
    for one, other in zip(again.entities, model.entities, strict=True):
        assert torch.equal(one, other)
    assert len(model.plot().axes) == 3


def test_a_named_predictor_learns_from_nothing_that_the_member_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    task, _, _ = planted()
    asked: list[Task] = []
    entry = find("neural")

    def watch(given: Task, *, seed: int):
        asked.append(given)
        return entry.function(given, seed=seed, epochs=1, **SMALL)

    registered = find("dain").function
    monkeypatch.setattr("tenfold.completion.dain.find", lambda name: type(entry)(**{**vars(entry), "function": watch}))
    registered(task, epochs=1, predictor="neural", **SMALL)
    likewise = training(task)
    assert len(asked) == 2
    for part, rows in zip(asked, likewise.learned, strict=True):
        assert torch.equal(part.coordinates, task.coordinates[rows])
        assert torch.equal(part.values, task.values[rows])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sign": "both"}, "sign 'both' must be 'abs' or 'positive'"),
        ({"amount": 0.0}, "amount 0.0"),
        ({"epochs": 0}, "epochs 0"),
        ({"predictor": "nerual"}, "'nerual' is not known"),
    ],
)
def test_options_out_of_range_are_named(options: dict, said: str) -> None:
    with pytest.raises(TenfoldError, match=said):
        run(planted()[0], **options)


def test_one_observation_and_a_tensor_that_is_all_observed() -> None:
    one = Task(torch.zeros(1, 2, dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64), (1, 1))
    told = run(one, epochs=3).predict(torch.zeros(1, 2, dtype=torch.float64))
    assert float(told.mean[0]) == pytest.approx(3, abs=0.5)
    cells = torch.cartesian_prod(torch.arange(3), torch.arange(4)).double()
    full = run(Task(cells, cells.sum(1), (3, 4)), epochs=2, **SMALL)
    assert full.cells.shape == (0, 2)
