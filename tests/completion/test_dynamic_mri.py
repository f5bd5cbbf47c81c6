"""Image series: adjoints, limits with closed forms, optimality, and a phantom."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tenfold.claims._phantom import beating, lines, sampled
from tenfold.completion import dynamic_mri as room
from tenfold.completion.dynamic_mri import dynamic_mri, psnr
from tenfold.errors import DataError, TenfoldError

NOTHING = {"spatial_variation": 0.0, "temporal_variation": 0.0, "spatial_nuclear": 0.0, "temporal_nuclear": 0.0}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.view_as_complex(torch.randn(*shape, 2, generator=generator, dtype=torch.float64))


def small(noise: float = 0.01) -> tuple[Tensor, Tensor, Tensor]:
    truth = beating(24, 8)
    mask = lines(24, 8, 4, 0)
    return truth, mask, sampled(truth, mask, noise, 0)


def test_adjoints() -> None:
    x = drawn(6, 5, 4)
    pairs = [
        (room.space, room.space_adjoint, drawn(2, 6, 5, 4, seed=1), 8),
        (room.time, room.time_adjoint, drawn(6, 5, 4, seed=1), 4),
        (room.forward, room.backward, drawn(6, 5, 4, seed=1), 1),
    ]
    for there, back, y, most in pairs:
        one, other = torch.vdot(y.flatten(), there(x).flatten()), torch.vdot(back(y).flatten(), x.flatten())
        assert abs(complex(one - other)) < 1e-12 * abs(complex(one)) + 1e-12
        # The norm that the step size counts on.
        z = x
        for _ in range(200):
            z = back(there(z))
            z = z / z.norm()
        assert float(there(z).norm()) ** 2 <= most + 1e-9


def test_projections_cut_lengths_and_singular_values() -> None:
    dual = drawn(2, 6, 5, 4)
    cut = room._clipped(dual, 0.7, pointwise=True)
    lengths = dual.abs().square().sum(0).sqrt()
    torch.testing.assert_close(cut.abs().square().sum(0).sqrt(), lengths.clamp(max=0.7))
    for axes in (1, 2):
        x = drawn(6, 5, 4)
        u, s, vh = torch.linalg.svd(x.flatten(0, axes - 1).flatten(1), full_matrices=False)
        found = room._spectral(x, 2.0, axes)
        torch.testing.assert_close(found, (u * s.clamp(max=2.0) @ vh).reshape(x.shape))
        assert not room._spectral(x, 0.0, axes).any()


def test_everything_measured_and_no_penalty_is_the_inverse_transform() -> None:
    truth = drawn(8, 6, 5)
    found = dynamic_mri(room.forward(truth), torch.ones(8, 6, 5, dtype=torch.bool), **NOTHING)
    torch.testing.assert_close(found.images, truth)
    assert found.stopped == "tol"


def test_everything_measured_and_one_nuclear_norm_is_soft_thresholding() -> None:
    truth = drawn(8, 6, 5)
    scale = float(truth.abs().max())
    found = dynamic_mri(
        room.forward(truth), torch.ones(8, 6, 5, dtype=torch.bool), **{**NOTHING, "temporal_nuclear": 0.8}, error=None,
        steps=4000, tol=1e-12,
    )  # fmt: skip
    u, s, vh = torch.linalg.svd(truth.flatten(0, 1), full_matrices=False)
    expected = (u * (s - 0.8 * scale).clamp(min=0) @ vh).reshape(truth.shape)
    torch.testing.assert_close(found.images, expected, rtol=1e-6, atol=1e-6)


def test_the_error_weighs_the_data_less() -> None:
    # Minimised over E, |r|^2 / 2 becomes e / (1 + e) |r|^2 / 2: with e = 1 as if penalties were twice as large.
    _, mask, samples = small()
    options = {"steps": 800, "tol": 1e-7}
    penalties = {
        "spatial_variation": 2e-3,
        "temporal_variation": 2e-3,
        "spatial_nuclear": 0.02,
        "temporal_nuclear": 0.05,
    }
    with_error = dynamic_mri(samples, mask, **penalties, error=1.0, **options)  # type: ignore[arg-type]
    doubled = {name: 2 * value for name, value in penalties.items()}
    without = dynamic_mri(samples, mask, **doubled, error=None, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(with_error.images, without.images, rtol=0, atol=5e-4)
    undoubled = dynamic_mri(samples, mask, **penalties, error=None, **options)  # type: ignore[arg-type]
    assert float((undoubled.images - without.images).abs().max()) > 5e-3
    assert not without.error.any()
    assert with_error.error.any()


def test_the_objective_reaches_its_least() -> None:
    _, mask, samples = small()
    found = dynamic_mri(samples, mask, steps=1500, tol=0.0)
    gaps = [value - found.objectives[-1] for value in found.objectives]
    assert gaps[4] > gaps[14] > gaps[39] > -1e-9
    assert gaps[99] < 1e-4 * found.objectives[-1]
    # No point nearby is lower.
    scale = float(found.zero_filled.abs().max())
    weights = {
        "spatial_variation": 1e-3,
        "temporal_variation": 2e-3,
        "spatial_nuclear": 0.02,
        "temporal_nuclear": 0.05,
        "error": 1.0,
    }

    def objective(x: Tensor) -> float:
        missed = torch.where(mask, room.forward(x + found.error / scale) - samples / scale, 0)
        return 0.5 * room._norm(missed) ** 2 + room._penalties(x, found.error / scale, weights)

    least = objective(found.images / scale)
    assert least == pytest.approx(found.objectives[-1], rel=1e-9)
    for seed in range(5):
        assert objective(found.images / scale + 1e-2 * drawn(24, 24, 8, seed=seed)) > least


def test_a_phantom_is_far_better_than_zero_filling() -> None:
    truth = beating(32, 12)
    mask = lines(32, 12, 8, 0)
    found = dynamic_mri(sampled(truth, mask, 0.01, 0), mask, steps=150)
    assert psnr(found.images, truth) > psnr(found.zero_filled, truth) + 5
    figure = found.plot(truth)
    assert len(figure.axes) == 12
    assert "32 × 32, 12 frames" in repr(found)


def test_scale_and_what_is_outside_the_mask() -> None:
    _, mask, samples = small()
    plain = dynamic_mri(samples, mask, steps=20)
    for factor in (1e-150, 1e150):
        scaled = dynamic_mri(samples * factor, mask, steps=20)
        torch.testing.assert_close(scaled.images / factor, plain.images, rtol=1e-9, atol=1e-12)
    outside = torch.where(mask, samples, math.nan)
    torch.testing.assert_close(dynamic_mri(outside, mask, steps=20).images, plain.images)
    assert not dynamic_mri(0 * samples, mask, steps=20).images.any()


def test_what_is_refused() -> None:
    _, mask, samples = small()
    with pytest.raises(DataError, match="samples has shape"):
        dynamic_mri(samples[0], mask[0])
    with pytest.raises(DataError, match=r"mask is torch\.float32 of shape"):
        dynamic_mri(samples, mask.float())
    with pytest.raises(DataError, match="mask has no True"):
        dynamic_mri(samples, torch.zeros_like(mask))
    with pytest.raises(DataError, match="NaN or inf where the mask is True"):
        dynamic_mri(samples + math.nan, mask)
    with pytest.raises(TenfoldError, match="temporal_nuclear is -1"):
        dynamic_mri(samples, mask, temporal_nuclear=-1)


def test_masks_measure_what_they_say() -> None:
    mask = lines(64, 20, 8, 0)
    assert float(mask.double().mean()) == 1 / 8
    assert bool(mask[0].all())
    assert bool((mask.all(1) == mask.any(1)).all())
    assert len({tuple(frame.any(1).tolist()) for frame in mask.unbind(2)}) > 10
