"""Starting values and learning rates that suit the matrix of each core, whatever the width of the network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import permutations
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import nn

from tenfold import formats
from tenfold._arguments import quoted
from tenfold.errors import TenfoldError
from tenfold.structure import Structure

# Orders of more cores than this are not all tried.
_ALL_ORDERS = 6


class Fan(NamedTuple):
    """One core as a batch of small dense matrices: how many numbers each takes in and how many it gives out."""

    inputs: int
    outputs: int

    @property
    def is_matrix(self) -> bool:
        """Whether it mixes numbers; else it only scales each."""
        return self.inputs > 1 or self.outputs > 1

    @property
    def std(self) -> float:
        """The standard deviation that gives the matrix a spectral norm of about ``sqrt(outputs / inputs)``."""
        return math.sqrt(1 / self.inputs) * min(1.0, math.sqrt(self.outputs / self.inputs))


@runtime_checkable
class HasFans(Protocol):
    """A layer that knows the matrices that its parameters are made of."""

    in_features: int

    def fans(self) -> Mapping[str, Fan]:
        """For each parameter that multiplies, by its name in the layer; all are multiplied into one matrix or added."""
        ...


def fans(structure: Structure) -> tuple[Fan, ...]:
    """For each core of a matrix structure, what it sums over and what it makes when vectors go through.

    Cores are applied in the cheapest order. An index that a core leaves for a later one to sum, or that an earlier one
    has made, is neither: for each of its values there is a matrix of its own. A block tensor train
    ``A[i1,i2,j1,r] B[i2,j1,j2,r]`` takes ``j2`` and makes ``i2 r``, then takes ``j1 r`` and makes ``i1``. Of a core
    that is used several times it is the use with most inputs.

    A hypercomplex layer counts as the dense one that it stands for: the numbers of its algebra do not shrink with the
    width.
    """
    uses = _fans_of_terms(structure)
    return tuple(max(uses[place] for place in core.terms) for core in structure.cores)


@lru_cache(maxsize=1024)
def _fans_of_terms(structure: Structure) -> tuple[Fan, ...]:
    if formats.name(structure) == "phm":
        (summed,) = structure.inner_indices
        n = structure.sizes[summed]
        algebra = next(place for place, core in enumerate(structure.cores) if set(core.shape) == {n})
        rows, columns = structure.shape
        return tuple(Fan(n, n) if place == algebra else Fan(columns, rows) for place in range(2))
    steps = _steps(structure, _cheapest(structure))
    made = {place: Fan(_size(structure, summed), _size(structure, fresh)) for place, summed, fresh, _ in steps}
    return tuple(made[place] for place in range(len(structure.terms)))


def standard_deviations(structures: Sequence[Structure], fixed: Mapping[tuple[int, int], float]) -> list[list[float]]:
    """For each core of each structure of a sum, the standard deviation of its numbers at the start.

    ``fixed`` holds the root mean square of cores that are given, by the numbers of structure and core: the others make
    up for what these are larger or smaller than they would be. The structures of a sum share the variance.
    """
    found = []
    for term, structure in enumerate(structures):
        uses_of = _fans_of_terms(structure)
        each = [math.prod(uses_of[p].std for p in core.terms) ** (1 / len(core.terms)) for core in structure.cores]
        free = [n for n in range(len(each)) if (term, n) not in fixed]
        uses = sum(len(structure.cores[n].terms) for n in free)
        factor = len(structures) ** -0.5
        for n, core in enumerate(structure.cores):
            if (term, n) in fixed:
                factor *= (each[n] / (fixed[term, n] or each[n])) ** len(core.terms)
        for n in free:
            each[n] *= factor ** (1 / uses)
        found.append(each)
    return found


def param_groups(
    model: nn.Module,
    lr: float,
    *,
    base_width: int,
    weight_decay: float = 0.0,
    unscaled: Iterable[str] = (),
    multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups of parameters for Adam or AdamW with which the best learning rate depends little on the width.

    A matrix from ``n`` numbers moves its output by about ``n`` times the learning rate, so its rate is
    ``lr * base_width / n``. A core of a structured layer is a batch of such matrices, of fewer inputs, and it shares
    the movement with the layer's other cores: ``lr * base_width / (cores * inputs)``, over all cores of a sum. Biases,
    gains, embeddings and everything else keep ``lr``. Convolutions count channels and not the window, which does not
    grow. Everything is read from the modules, so copies, reloaded and compiled models give the same groups.

    Args:
        model: any module.
        lr: the learning rate that is right for an ordinary network of width ``base_width``.
        base_width: that width.
        weight_decay: of parameters with two axes or more; others get none. The optimizer's own is not used.
        unscaled: layers, as names with wildcards, whose inputs do not grow with the width: the first one, mostly.
        multipliers: more factors of the rate, by names of parameters with wildcards.

    Returns:
        What optimizers of ``torch.optim`` take: groups with ``params``, ``lr``, ``weight_decay`` and the ``names`` of
        the parameters. Each parameter that is trained is in one group; a shared one goes with its first name.

    Raises:
        TenfoldError: a rate or width that is not above zero, or a name that fits nothing.

    Papers: "Compute better spent: replacing dense layers with structured matrices", 2024; "Tensor programs V: tuning
    large neural networks via zero-shot hyperparameter transfer", 2021.
    """
    for name, value in (("lr", lr), ("base_width", base_width)):
        if not value > 0:
            raise TenfoldError(f"{name} must be above 0, not {quoted(value)}")
    patterns, factors = tuple(unscaled), dict(multipliers or {})
    names = [_plain(name) for name, _ in model.named_modules()]
    trained = [_plain(name) for name, _ in model.named_parameters(remove_duplicate=False)]
    for what, given, known in (("unscaled", patterns, names), ("multipliers", factors, trained)):
        for pattern in given:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise TenfoldError(f"{what} names {quoted(pattern)}, which fits nothing in the model")
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        own = _plain(prefix)
        fixed = any(fnmatchcase(own, pattern) for pattern in patterns)
        scales = _scales(module, base_width, fixed)
        # What the layer above counts for a container inside it, such as its list of cores, is not counted again.
        for name, parameter in module.named_parameters(recurse=isinstance(module, HasFans)):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            full = f"{own}.{_plain(name)}" if own else _plain(name)
            scale = scales.get(_plain(name), 1.0)
            for pattern, factor in factors.items():
                if fnmatchcase(full, pattern):
                    scale *= factor
            decay = weight_decay if parameter.ndim >= 2 else 0.0
            group = groups.setdefault(
                (scale, decay), {"params": [], "lr": lr * scale, "weight_decay": decay, "names": []}
            )
            group["params"].append(parameter)
            group["names"].append(full)
    return list(groups.values())


def _scales(module: nn.Module, base_width: int, fixed: bool) -> dict[str, float]:
    """What the rate of each parameter of a module is multiplied by, where that is not one."""
    if isinstance(module, HasFans):
        found = module.fans()
        matrices = {name: fan for name, fan in found.items() if fan.is_matrix}
        width = module.in_features if fixed else base_width
        return {name: width / (len(matrices) * fan.inputs) for name, fan in matrices.items()}
    if fixed:
        return {}
    if isinstance(module, nn.Linear):
        return {"weight": base_width / max(module.in_features, 1)}
    if isinstance(module, nn.modules.conv._ConvNd):
        return {"weight": base_width / max(module.in_channels // module.groups, 1)}
    if isinstance(module, nn.MultiheadAttention):
        width = base_width / module.embed_dim
        return {name: width for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")}
    return {}


def _plain(name: str) -> str:
    """Without what compiling puts in front."""
    return name.replace("_orig_mod.", "").removesuffix("_orig_mod")


def _cheapest(structure: Structure) -> tuple[int, ...]:
    count = len(structure.terms)
    forward = tuple(range(count))
    # Backwards first: where both cost the same, the core nearest to the columns comes last in the pattern.
    tried = [forward[::-1], forward]
    if count <= _ALL_ORDERS:
        tried += list(permutations(forward))
    return min(tried, key=lambda order: sum(work for *_, work in _steps(structure, order)))


def _steps(structure: Structure, order: Sequence[int]) -> list[tuple[int, frozenset[str], frozenset[str], int]]:
    """For each term in this order, the indices that it sums, those that it makes, and the work."""
    rows = set(structure.outputs[0])
    state = set(structure.outputs[1])
    found = []
    for step, place in enumerate(order):
        mine = set(structure.terms[place].indices)
        later = {i for other in order[step + 1 :] for i in structure.terms[other].indices}
        everything = state | mine
        after = {i for i in everything if i in later or i in rows}
        found.append((place, frozenset(everything - after), frozenset(after - state), _size(structure, everything)))
        state = after
    return found


def _size(structure: Structure, indices: Iterable[str]) -> int:
    return math.prod(structure.sizes[i] for i in indices)
