"""A probability distribution over tables of categories as a tensor train, and what it says of each feature.

The probability of a row is the square of an entry of the train, ``p(v) = psi(v)^2 / sum psi^2``. So sums over features
are contractions: marginals, conditionals, entropies and samples are exact and need no simulation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold import formats
from tenfold._arguments import real_number, whole_number
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.network import Network, load_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Amplitudes below this have gradients that mean nothing.
_SMALLEST = 1e-12
# Singular values below this part of the largest are rounding.
_NOISE = 1e-7


@dataclass(frozen=True)
class BornMachine:
    """A distribution over rows of categories.

    Attributes:
        network: a tensor train of unit norm with one axis for each feature; its entries are amplitudes.
        features: the name of each axis.
        levels: for each feature the labels of its categories, in the order of the codes.
        history: the mean negative log-likelihood of the training rows after each sweep, in nats.
        held_out: the same for the rows that were held out; empty where none were.
    """

    network: Network
    features: tuple[str, ...]
    levels: Mapping[str, tuple[Any, ...]]
    history: tuple[float, ...] = ()
    held_out: tuple[float, ...] = ()
    _cores: tuple[Tensor, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cores", tuple(_site_cores(self.network)))

    def __repr__(self) -> str:
        ranks = [core.shape[2] for core in self._cores[:-1]]
        sizes = ", ".join(f"{name} ({len(self.levels[name])})" for name in self.features)
        said = f", {self.history[-1]:.4f} nats a row" if self.history else ""
        left = f", {min(self.held_out):.4f} held out" if self.held_out else ""
        return f"BornMachine({sizes}; bond dimensions {', '.join(map(str, ranks)) or 'none'}{said}{left})"

    # --- rows ---------------------------------------------------------------------------------------------------------

    def codes(self, rows: Any) -> Int[Tensor, "rows features"]:
        """Rows of labels (a DataFrame, a mapping of columns, or a sequence of rows) as rows of codes.

        Raises:
            DataError: there are no rows, a column is missing, or a label is none that the machine knows.
        """
        columns = _columns(rows, self.features)
        if not columns[self.features[0]]:
            raise DataError("there are no rows")
        coded = []
        for name in self.features:
            known = {level: code for code, level in enumerate(self.levels[name])}
            try:
                coded.append([known[_plain(label)] for label in columns[name]])
            except KeyError as cause:
                raise DataError(f"'{cause.args[0]}' is no category of '{name}' that was there to learn from") from None
        return torch.tensor(coded, dtype=torch.int64).reshape(len(self.features), -1).T.contiguous()

    def log_probability(self, rows: Any) -> Float[Tensor, " rows"]:
        """``ln p`` of each row, in nats; ``-log_probability`` is the usual score of how odd a row is.

        Args:
            rows: labels as in `codes`, or an integer tensor of codes.

        Raises:
            DataError: there are no rows, a label or a code is none that the machine knows.
        """
        coded = self._checked(rows) if isinstance(rows, Tensor) else self.codes(rows)
        amplitudes = self.network.at(coded).abs().clamp(min=_SMALLEST)
        return 2 * amplitudes.log()

    def threshold(self, rows: Any, quantile: float = 0.99) -> float:
        """The score ``-ln p`` that this part of some (ordinary) rows stays below.

        Raises:
            TenfoldError: ``quantile`` is not from 0 to 1.
        """
        if not 0 <= real_number("quantile", quantile, "from 0 to 1") <= 1:
            raise TenfoldError(f"quantile must be from 0 to 1, not {quantile!r}")
        return float(torch.quantile(-self.log_probability(rows), quantile))

    def sample(self, count: int, *, seed: int = 0) -> Int[Tensor, "count features"]:
        """Independent rows of codes from exactly this distribution, feature by feature. Cost ``O(count n d r^2)``."""
        count, seed = whole_number("count", count, 0), whole_number("seed", seed, 0)
        generator = torch.Generator().manual_seed(seed)
        cores = _right_canonical(list(self._cores))
        left = torch.ones(count, 1, dtype=cores[0].dtype)
        rows = torch.empty(count, len(cores), dtype=torch.int64)
        for k, core in enumerate(cores):
            amplitudes = torch.einsum("ma,adb->mdb", left, core)
            drawn = torch.multinomial((amplitudes**2).sum(2).clamp(min=1e-300), 1, generator=generator)[:, 0]
            rows[:, k] = drawn
            left = amplitudes[torch.arange(count), drawn]
            left = left / torch.linalg.vector_norm(left, dim=1, keepdim=True)
        return rows

    # --- what it says of features -------------------------------------------------------------------------------------

    def probabilities(self, *names: str, given: Mapping[str, Any] | None = None) -> Float[Tensor, "..."]:
        """The joint probabilities of some features, one axis each, given the categories of others.

        Args:
            names: features, in the order of the axes.
            given: labels of features that are known.

        Raises:
            DataError: a feature or a label is not known, or what is given has probability zero.
        """
        fixed = {self._place(name): self._code(name, label) for name, label in (given or {}).items()}
        kept = [self._place(name) for name in names]
        if len({*kept, *fixed}) < len(kept) + len(fixed):
            raise DataError("a feature is named twice")
        table = self._density(kept, fixed, diagonal=True)
        order = sorted(kept)
        table = table.permute([order.index(place) for place in kept])
        total = float(table.sum())
        if not total > 0:
            raise DataError(f"what is given has probability zero: {dict(given or {})}")
        return table / total

    def entropy(self, *names: str) -> float:
        """The Shannon entropy of some features together, in nats."""
        table = self.probabilities(*names).reshape(-1)
        return float(-torch.special.xlogy(table, table).sum())

    def entanglement(self, *names: str) -> float:
        """The von Neumann entropy of the reduced density matrix of some features, in nats.

        It is of the amplitudes, and in general no entropy of the probabilities: 0 if these features factor out of the
        train. Cost: the eigenvalues of a matrix with as many rows as the features have joint categories.
        """
        kept = sorted(self._place(name) for name in names)
        density = self._density(kept, {}, diagonal=False)
        size = math.prod(density.shape[: len(kept)])
        values = torch.linalg.eigvalsh(density.reshape(size, size)).clamp(min=0)
        values = values / values.sum()
        return float(-torch.special.xlogy(values, values).sum())

    def mutual_information(self, *, amplitudes: bool = False) -> Float[Tensor, "features features"]:
        """How much each pair of features says about one another, in nats; each feature's entropy on the diagonal.

        Args:
            amplitudes: of the amplitudes (`entanglement`) instead of the probabilities (`entropy`).
        """
        measure = self.entanglement if amplitudes else self.entropy
        single = [measure(name) for name in self.features]
        table = torch.diag(torch.tensor(single, dtype=torch.float64))
        for i, one in enumerate(self.features):
            for j, other in enumerate(self.features[:i]):
                table[i, j] = table[j, i] = max(single[i] + single[j] - measure(other, one), 0.0)
        return table

    def explain(self, row: Mapping[str, Any] | Sequence[Any] | Int[Tensor, " features"]) -> dict[str, float]:
        """For each feature of one row ``-ln p(its category | all other categories)``: which of them is odd, in nats.

        Args:
            row: the labels by feature or in the order of the features, or an integer tensor of codes.

        Raises:
            DataError: a feature is missing, or a label or code is none that the machine knows.
        """
        row = self._labelled(row)
        found = {}
        for name in self.features:
            others = {other: row[other] for other in self.features if other != name}
            table = self.probabilities(name, given=others)
            found[name] = -math.log(max(float(table[self._code(name, row[name])]), 1e-300))
        return found

    def plot(self) -> Figure:
        """The mutual information of every pair of features as a heat map (entropies are left out)."""
        from matplotlib.figure import Figure

        table = self.mutual_information().numpy().copy()
        np.fill_diagonal(table, np.nan)
        side = 2.2 + 0.55 * len(self.features)
        figure = Figure(figsize=(side + 1.0, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(table, cmap="viridis", vmin=0)
        places = range(len(self.features))
        axes.set_xticks(places, self.features, rotation=45, ha="right")
        axes.set_yticks(places, self.features)
        axes.set_title("what features say about one another")
        figure.colorbar(image, ax=axes, label="mutual information (nats)", shrink=0.8)
        return figure

    # --- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """One ``.tn`` file with the train, the names and the labels; `BornMachine.load` reads it back."""
        record = {
            "features": list(self.features),
            "levels": {name: [_plain(level) for level in levels] for name, levels in self.levels.items()},
            "history": list(self.history),
            "held_out": list(self.held_out),
        }
        self.network.save(path, record={"born_machine": record})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BornMachine:
        """What `save` wrote. Raises `FileError` for any other file."""
        network, record = load_file(path)
        try:
            kept = (record or {})["born_machine"]
            levels = {name: tuple(known) for name, known in kept["levels"].items()}
            return cls(network, tuple(kept["features"]), levels, tuple(kept["history"]), tuple(kept["held_out"]))
        except (KeyError, TypeError, AttributeError):
            raise FileError(f"'{path}' holds no Born machine") from None

    def _checked(self, codes: Tensor) -> Int[Tensor, "rows features"]:
        """Codes that are those of categories. Raises `DataError` if they are not."""
        if codes.ndim != 2 or codes.shape[1] != len(self.features) or not len(codes):
            shape = tuple(codes.shape)
            raise DataError(f"codes must have shape (rows, {len(self.features)}) with at least one row, not {shape}")
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise DataError(f"codes must be whole numbers, not {codes.dtype}")
        for name, column in zip(self.features, codes.unbind(1), strict=True):
            for code in (int(column.min()), int(column.max())):
                if not 0 <= code < len(self.levels[name]):
                    raise DataError(f"code {code} of '{name}' is none of 0 to {len(self.levels[name]) - 1}")
        return codes

    def _labelled(self, row: Any) -> Mapping[str, Any]:
        """The labels of one row by feature."""
        if isinstance(row, Tensor):
            if row.ndim != 1:
                raise DataError(f"row must be one row of codes, not a tensor of shape {tuple(row.shape)}")
            (codes,) = self._checked(row[None]).tolist()
            return {name: self.levels[name][code] for name, code in zip(self.features, codes, strict=True)}
        if hasattr(row, "to_dict"):
            row = row.to_dict()  # a row of a DataFrame
        if not isinstance(row, Mapping):
            if isinstance(row, str) or not hasattr(row, "__len__") or len(row) != len(self.features):
                raise DataError(f"row must hold a category for each of {', '.join(self.features)}, not {row!r}")
            row = dict(zip(self.features, row, strict=True))
        for name in self.features:
            if name not in row:
                raise DataError(f"column '{name}' is missing")
        return row

    # --- inside -------------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> int:
        if name not in self.features:
            raise DataError(f"'{name}' is no feature; there are {', '.join(self.features)}")
        return self.features.index(name)

    def _code(self, name: str, label: Any) -> int:
        self._place(name)
        try:
            return self.levels[name].index(_plain(label))
        except ValueError:
            raise DataError(f"'{label}' is no category of '{name}'") from None

    def _density(self, kept: Sequence[int], fixed: Mapping[int, int], *, diagonal: bool) -> Tensor:
        """The reduced density of some sites, (d.., d'..), or its diagonal, with others fixed and the rest summed."""
        state = torch.ones(1, 1, 1, 1, dtype=torch.float64)  # open upper x open lower x bond x bond
        for k, core in enumerate(self._cores):
            if k in fixed:
                core = core[:, fixed[k] : fixed[k] + 1]
            if k in kept and diagonal:
                state = torch.einsum("xyab,adc,bde->xdyce", state, core, core)
                state = state.reshape(-1, state.shape[2], *state.shape[3:])
            elif k in kept:
                state = torch.einsum("xyab,adc,bfe->xdyfce", state, core, core)
                x, d, y, f = state.shape[:4]
                state = state.reshape(x * d, y * f, *state.shape[4:])
            else:
                state = torch.einsum("xyab,adc,bde->xyce", state, core, core)
        sizes = [self._cores[k].shape[1] for k in sorted(kept)]
        return state[:, :, 0, 0].reshape(sizes if diagonal else [*sizes, *sizes])


@torch.no_grad()
def born_machine(
    rows: Any,
    *,
    max_rank: int = 16,
    sweeps: int = 10,
    steps: int = 8,
    learning_rate: float = 0.05,
    holdout: float = 0.0,
    seed: int = 0,
    callback: Callable[[int, float], None] | None = None,
) -> BornMachine:
    """Learn the distribution of the rows of a table of categories.

    Two neighbouring cores at a time are improved by gradient steps on the mean negative log-likelihood and split again
    by their singular values, so bond dimensions grow where neighbours depend on one another.

    Args:
        rows: a DataFrame, a mapping of columns, or an integer tensor or array of codes of shape (rows, features).
        max_rank: no bond gets larger.
        sweeps: sweeps, each from left to right and back.
        steps: gradient steps for each pair of cores.
        learning_rate: length of a step; gradients are clipped to norm 1, and the pair of cores has norm 1.
        holdout: this part of the rows is held out, and the machine of the sweep that is best on them returned.
        seed: of the start and of the rows held out.
        callback: called after each sweep with its number and the mean negative log-likelihood.

    Returns:
        A `BornMachine`.

    Raises:
        DataError: no rows, no columns, missing entries, or rows that are no categories.
        TenfoldError: an argument is out of range.

    Cost: for each bond and step ``O(distinct rows r^2)``.
    Papers: "Unsupervised generative modeling using matrix product states", 2018; "Tensor networks for explainable
    machine learning in cybersecurity", 2023.
    """
    if not 0 <= holdout < 1:
        raise TenfoldError(f"holdout must be at least 0 and below 1, not {holdout!r}")
    for name, value in (("max_rank", max_rank), ("sweeps", sweeps), ("steps", steps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise TenfoldError(f"{name} must be a whole number of at least 1, not {value!r}")
    seed = whole_number("seed", seed, 0)
    features, levels, codes = _coded(rows)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(codes), generator=generator)
    left_out = math.floor(holdout * len(codes))
    outside, inside = codes[order[:left_out]], codes[order[left_out:]]
    training = _Training(inside, [len(levels[name]) for name in features], max_rank, generator)
    history: list[float] = []
    held_out: list[float] = []
    best: list[Tensor] = []
    for number in range(1, sweeps + 1):
        training.sweep(steps, learning_rate)
        history.append(training.loss())
        if left_out:
            held_out.append(_loss(training.cores, outside, torch.full((left_out,), 1 / left_out, dtype=torch.float64)))
        if not left_out or held_out[-1] <= min(held_out):
            best = list(training.cores)
        if callback is not None:
            callback(number, history[-1])
    return BornMachine(_network(best), features, levels, tuple(history), tuple(held_out))


class _Training:
    """A train in canonical form around one pair of cores, with what the rows make of both of its sides."""

    def __init__(self, codes: Tensor, sizes: Sequence[int], max_rank: int, generator: torch.Generator) -> None:
        self.codes, counts = torch.unique(codes, dim=0, return_counts=True)
        self.weights = counts.double() / counts.sum()
        self.max_rank = max_rank
        # Near a constant, so that no row starts with a vanishing amplitude.
        ranks = [1] + [min(2, max_rank)] * (len(sizes) - 1) + [1]
        start = [
            1 + 0.3 * torch.randn(a, n, b, generator=generator, dtype=torch.float64)
            for a, n, b in zip(ranks, sizes, ranks[1:], strict=False)
        ]
        self.cores = _right_canonical(start)
        self.cores[0] = self.cores[0] / torch.linalg.vector_norm(self.cores[0])

    def loss(self) -> float:
        return _loss(self.cores, self.codes, self.weights)

    def sweep(self, steps: int, rate: float) -> None:
        n = len(self.cores)
        if n == 1:
            # One feature: the best amplitudes are the roots of the frequencies.
            found = torch.zeros_like(self.cores[0][0, :, 0])
            found.index_add_(0, self.codes[:, 0], self.weights)
            self.cores[0] = found.sqrt()[None, :, None]
            return
        right = [torch.ones(len(self.codes), 1, dtype=torch.float64)]
        for k in range(n - 1, 1, -1):
            right.append(_unit(torch.einsum("mab,mb->ma", _picked(self.cores[k], self.codes[:, k]), right[-1])))
        left = [torch.ones(len(self.codes), 1, dtype=torch.float64)]
        for k in range(n - 1):
            self._pair(k, left[-1], right.pop(), steps, rate, rightwards=True)
            if k < n - 2:
                left.append(_unit(torch.einsum("ma,mab->mb", left[-1], _picked(self.cores[k], self.codes[:, k]))))
        beyond = torch.ones(len(self.codes), 1, dtype=torch.float64)
        for k in range(n - 2, -1, -1):
            self._pair(k, left.pop(), beyond, steps, rate, rightwards=False)
            beyond = _unit(torch.einsum("mab,mb->ma", _picked(self.cores[k + 1], self.codes[:, k + 1]), beyond))

    def _pair(self, k: int, left: Tensor, right: Tensor, steps: int, rate: float, *, rightwards: bool) -> None:
        one, other = self.cores[k], self.cores[k + 1]
        pair = torch.tensordot(one, other, dims=1)
        pair = pair / torch.linalg.vector_norm(pair)
        a, d, e, b = pair.shape
        place = self.codes[:, k] * e + self.codes[:, k + 1]
        order = torch.argsort(place, stable=True)
        counts = torch.bincount(place, minlength=d * e).tolist()
        groups = [(n, rows) for n, rows in enumerate(order.split(counts)) if len(rows)]
        for _ in range(steps):
            slices = pair.permute(1, 2, 0, 3).reshape(d * e, a, b)
            gradient = 2 * slices
            for n, rows in groups:
                inside, outside = left[rows], right[rows]
                amplitudes = torch.einsum("ma,ab,mb->m", inside, slices[n], outside)
                safe = torch.where(amplitudes < 0, -1.0, 1.0) * amplitudes.abs().clamp(min=_SMALLEST)
                gradient[n] -= 2 * inside.T @ ((self.weights[rows] / safe)[:, None] * outside)
            moved = gradient.reshape(d, e, a, b).permute(2, 0, 1, 3)
            # Only directions along the sphere change the likelihood.
            moved = moved - (moved * pair).sum() * pair
            pair = pair - rate * moved / max(float(torch.linalg.vector_norm(moved)), 1.0)
            pair = pair / torch.linalg.vector_norm(pair)
        basis, values, rest = torch.linalg.svd(pair.reshape(a * d, e * b), full_matrices=False)
        rank = min(int((values > _NOISE * values[0]).sum()), self.max_rank)
        values = values[:rank] / torch.linalg.vector_norm(values[:rank])
        basis, rest = basis[:, :rank], rest[:rank]
        if rightwards:
            rest = values[:, None] * rest
        else:
            basis = basis * values
        self.cores[k], self.cores[k + 1] = basis.reshape(a, d, rank), rest.reshape(rank, e, b)


def _picked(core: Tensor, codes: Tensor) -> Tensor:
    return core[:, codes].permute(1, 0, 2)


def _unit(vectors: Tensor) -> Tensor:
    """Each row scaled to its largest entry: the gradient divides by the amplitude, so scales of rows cancel."""
    return vectors / vectors.abs().amax(1, keepdim=True).clamp(min=1e-300)


def _loss(cores: Sequence[Tensor], codes: Tensor, weights: Tensor) -> float:
    """``-sum w ln p``; the train has unit norm."""
    row = torch.ones(len(codes), 1, dtype=torch.float64)
    for k, core in enumerate(cores):
        row = torch.einsum("ma,mab->mb", row, _picked(core, codes[:, k]))
    return float(-(weights * 2 * row[:, 0].abs().clamp(min=_SMALLEST).log()).sum())


def _right_canonical(cores: list[Tensor]) -> list[Tensor]:
    """The same train with all cores but the first orthonormal from the right."""
    made = list(cores)
    for k in range(len(made) - 1, 0, -1):
        a, n, b = made[k].shape
        basis, rest = torch.linalg.qr(made[k].reshape(a, n * b).T)
        made[k] = basis.T.reshape(-1, n, b)
        made[k - 1] = torch.tensordot(made[k - 1], rest.T, dims=1)
    return made


def _network(cores: Sequence[Tensor]) -> Network:
    shape = [core.shape[1] for core in cores]
    structure = formats.tensor_train(shape, [1] * (len(shape) - 1))
    structure = structure.replace({b: core.shape[2] for b, core in zip(structure.inner_indices, cores, strict=False)})
    tensors = []
    for k, core in enumerate(cores):
        tensor = core[0] if k == 0 else core
        tensors.append((tensor[..., 0] if k == len(cores) - 1 else tensor).contiguous())
    return Network(structure, tensors)


def _site_cores(network: Network) -> list[Tensor]:
    """The cores of a train with a bond on either side."""
    cores = [core.double() for core in network.cores]
    cores[0] = cores[0][None]
    cores[-1] = cores[-1][..., None]
    return cores


def _plain(label: Any) -> Any:
    """A label as Python's own kind of number or text."""
    return label.item() if isinstance(label, np.generic) else label


def _columns(rows: Any, features: Sequence[str] | None) -> dict[str, list[Any]]:
    if hasattr(rows, "columns") and hasattr(rows, "to_dict"):  # a DataFrame
        found = {str(name): list(rows[name]) for name in rows.columns}
    elif isinstance(rows, Mapping):
        found = {str(name): list(column) for name, column in rows.items()}
    elif features is not None:
        found = _transposed(rows, features)
    else:
        kind = type(rows).__name__
        raise DataError(f"rows must be a DataFrame, a mapping of columns or an array of codes, not {kind}")
    for name in features or ():
        if name not in found:
            raise DataError(f"column '{name}' is missing")
    if len({len(column) for column in found.values()}) > 1:
        raise DataError("the columns have different lengths")
    return found


def _transposed(rows: Any, features: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of a sequence of rows."""
    try:
        table = [list(row) for row in rows]
    except TypeError:
        raise DataError("rows must be a DataFrame, a mapping of columns or a sequence of rows") from None
    for number, row in enumerate(table):
        if len(row) != len(features):
            wanted = f"{len(features)} ({', '.join(features)})"
            raise DataError(f"row {number} has {len(row)} entries, not {wanted}")
    return {name: [row[place] for row in table] for place, name in enumerate(features)}


def _coded(rows: Any) -> tuple[tuple[str, ...], dict[str, tuple[Any, ...]], Tensor]:
    """Names, labels and codes of a table."""
    if isinstance(rows, Tensor | np.ndarray):
        codes = torch.as_tensor(rows)
        if codes.ndim != 2 or 0 in codes.shape:
            shape = tuple(codes.shape)
            raise DataError(f"codes must have shape (rows, features) with at least one of each, not {shape}")
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool or bool((codes < 0).any()):
            raise DataError("codes must be whole numbers from 0 on; give labels as a mapping of columns or a DataFrame")
        names = tuple(f"x{k + 1}" for k in range(codes.shape[1]))
        sizes = (codes.amax(0) + 1).tolist()
        return names, {name: tuple(range(n)) for name, n in zip(names, sizes, strict=True)}, codes.long()
    columns = _columns(rows, None)
    if not columns or not next(iter(columns.values())):
        raise DataError("the table has no rows or no columns")
    levels: dict[str, tuple[Any, ...]] = {}
    coded = []
    for name, column in columns.items():
        labels = [_plain(label) for label in column]
        empty = sum(label is None or label != label for label in labels)
        if empty:
            raise DataError(f"column '{name}' has {empty} missing entries; drop these rows or give them a label")
        try:
            levels[name] = tuple(sorted(set(labels)))
        except TypeError:
            levels[name] = tuple(sorted(set(labels), key=str))
        known = {level: code for code, level in enumerate(levels[name])}
        coded.append([known[label] for label in labels])
    return tuple(columns), levels, torch.tensor(coded, dtype=torch.int64).T.contiguous()
