"""A linear layer whose matrix is a structure, or a sum of structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold._arguments import quoted
from tenfold.contraction import plan
from tenfold.errors import StructureError, TenfoldError
from tenfold.nn._checks import check_real
from tenfold.nn._executed_map import ExecutedMap
from tenfold.nn._execution import Asked, Execution
from tenfold.nn._normalised import excess, normalised
from tenfold.nn._structured import ways
from tenfold.nn.learning_rates import Fan, fans, standard_deviations
from tenfold.nn.recipes import dtype_of, name_of
from tenfold.structure import Structure

# No index of a structure contains a space, so this name is free.
_BATCH = "the batch"


class StructuredLinear(ExecutedMap):
    """``y = x W^T + b`` where ``W`` is a matrix structure, or the sum of several.

    The structure's two output axes are rows (what goes out) and columns (what comes in), each a group of indices or
    one: ``formats.kronecker((8, 8), (4, 16))`` is a layer from 64 to 64 features.

    Args:
        structure: a matrix structure, or several whose matrices are added; all of one shape.
        bias: whether a number is added to each feature that goes out; it starts at zero.
        fixed: cores that are not trained, by their names; they are buffers of the layer.
        execution: ``"factorised"`` never makes the matrix in full to apply it, ``"materialised"`` always does, once for
            as long as the cores do not change where no gradient of them is wanted; ``"auto"`` does what was faster when
            it was measured, on the first vectors of a kind that came.
        normalize: whether each core that is trained is applied as ``gain * core / max(1, rms / level)``, with the root
            mean square of its numbers, the one that it starts with as the level, and a gain that is learned and starts
            at 1: activations cannot grow because cores do, and gains keep the rate they are given in `param_groups`.
        dtype, device: of the parameters, as in ``torch.nn``.
        generator: where the random numbers of the start come from; torch's own by default.

    Raises:
        StructureError: not a matrix, structures of several shapes, a fixed core that there is not, or another word for
            ``execution``.

    Cost: that of the cheapest order of products, ``flops(batch)``, or less time. Under ``torch.compile`` and
    ``torch.export`` nothing is measured: the factors are used where they need less than half of the operations of the
    matrix. What is kept of the cores is made anew when they change in place, are replaced, or when the layer is set to
    train or to eval; numbers written behind PyTorch's back (through ``.data`` or a NumPy view) are seen after that.
    Paper: "Compute better spent: replacing dense layers with structured matrices", 2024.
    """

    def __init__(
        self,
        structure: Structure | Sequence[Structure],
        *,
        bias: bool = True,
        fixed: Mapping[str, Tensor] | None = None,
        execution: Asked = "auto",
        normalize: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        structures = (structure,) if isinstance(structure, Structure | str) else tuple(structure)
        for one in structures:
            if not isinstance(one, Structure):
                raise StructureError(
                    f"structure must be a matrix structure, not {quoted(one)}: give tn.Structure(pattern, sizes), "
                    "as tn.Structure('i r, r j -> i j', {'i': 64, 'r': 8, 'j': 64})"
                )
        if not structures:
            raise StructureError("structure must be a matrix structure, or several; an empty list was given")
        for one in structures:
            if one.order != 2:
                raise StructureError(f"a linear layer takes a structure of 2 output axes; '{one}' has {one.order}")
            if one.shape != structures[0].shape:
                raise StructureError(f"the structures of a sum have one shape; {structures[0].shape} and {one.shape}")
        rows, columns = structures[0].shape
        super().__init__(columns, rows, bias=bias, dtype=dtype, device=device)
        self.structures = structures
        given_cores = dict(fixed or {})
        self._fixed = frozenset(given_cores)
        names = [self._name(n, core.name) for n, one in enumerate(structures) for core in one.cores]
        unknown = [name for name in given_cores if name not in names]
        if unknown:
            raise StructureError(f"fixed core '{unknown[0]}' is not in the structure; its cores are {', '.join(names)}")
        self.cores = nn.ParameterDict()
        self._places: list[list[tuple[str, bool]]] = []
        for n, one in enumerate(structures):
            self._places.append([])
            for core in one.cores:
                name = self._name(n, core.name)
                self._places[-1].append((f"fixed_{name}" if name in given_cores else name, name in given_cores))
                if name in given_cores:
                    given = torch.as_tensor(given_cores[name]).to(
                        dtype=dtype or torch.get_default_dtype(), device=device
                    )
                    if tuple(given.shape) != core.shape:
                        raise StructureError(f"core '{name}' has shape {core.shape}, not {tuple(given.shape)}")
                    self.register_buffer(f"fixed_{name}", given.clone())
                else:
                    self.cores[name] = nn.Parameter(torch.empty(core.shape, dtype=dtype, device=device))
        self.normalize, how = normalize, ways(structures)
        # As if no core were fixed: what is given is not known to a layer that is made from its recipe.
        self._levels = tuple(
            tuple(std if normalize and not apart else None for std, (_, apart) in zip(each, places, strict=True))
            for each, places in zip(standard_deviations(structures, {}), self._places, strict=True)
        )
        if normalize:
            self.gains = nn.ParameterDict(
                {name: nn.Parameter(torch.ones((), dtype=dtype, device=device)) for name in self.cores}
            )
            how = normalised(how, self._levels)
        self._execution = Execution(how, execution)
        self.reset_parameters(generator)

    def _name(self, term: int, core: str) -> str:
        return core if len(self.structures) == 1 else f"{core}_{term}"

    def _cores(self, term: int) -> list[Tensor]:
        # Straight from where modules keep them: this runs in every call, and attributes of modules are slow.
        trained, fixed = self.cores._parameters, self._buffers
        try:
            return [fixed[name] if apart else trained[name] for name, apart in self._places[term]]  # type: ignore[misc]
        except KeyError:
            # Some are made of others, by a parametrization or by pruning.
            return [getattr(self, name) if apart else _made(self.cores, name) for name, apart in self._places[term]]

    def _tensors(self) -> list[list[Tensor]]:
        cores = [self._cores(term) for term in range(len(self._places))]
        if self.normalize:
            gains = self.gains._parameters
            names = [name for places in self._places for name, apart in places if not apart]
            try:
                cores.append([gains[name] for name in names])  # type: ignore[misc]
            except KeyError:
                cores.append([_made(self.gains, name) for name in names])
        return cores

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Cores anew, each with the spread that suits the small matrices it is made of; the bias zero.

        A core that takes ``a`` numbers in and gives ``b`` out is normal with standard deviation
        ``sqrt(1 / a) min(1, sqrt(b / a))``, so that the spectral norm is about ``sqrt(b / a)`` at any width. For a
        narrow core that is less than what keeps the variance of the output, and meant to be. See `learning_rates`.
        """
        with torch.no_grad():
            given = {
                (term, n): float(self._cores(term)[n].float().square().mean().sqrt())
                for term, structure in enumerate(self.structures)
                for n, core in enumerate(structure.cores)
                if self._name(term, core.name) in self._fixed
            }
            for term, each in enumerate(standard_deviations(self.structures, given)):
                for n, (core, std) in enumerate(zip(self._cores(term), each, strict=True)):
                    if (term, n) not in given:
                        core.normal_(0.0, std, generator=generator)
                        level = self._levels[term][n]
                        if level is not None:
                            # More than 1 where it makes up for fixed cores that are small.
                            self.gains[self._places[term][n][0]].fill_(max(1.0, std / level))
            if self.bias is not None:
                self.bias.zero_()

    def fans(self) -> Mapping[str, Fan]:
        """For each core that is trained, the size of the small matrices it is made of, by its parameter's name."""
        return {
            f"cores.{self._name(term, core.name)}": fan
            for term, structure in enumerate(self.structures)
            for core, fan in zip(structure.cores, fans(structure), strict=True)
            if self._name(term, core.name) not in self._fixed
        }

    def flops(self, batch: int = 1) -> int:
        """Multiplications and additions of one call on ``batch`` vectors along the cheapest order of products."""
        total = 0
        for structure in self.structures:
            up, down = structure.outputs
            inputs = [(_BATCH, *down), *(t.indices for t in structure.terms)]
            total += plan(inputs, (_BATCH, *up), {**structure.sizes, _BATCH: batch}).flops
        return total

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        return {
            "structures": [structure.to_json() for structure in self.structures],
            "bias": self.bias is not None,
            "fixed": sorted(self._fixed),
            "execution": self._execution.asked,
            "normalize": self.normalize,
            "dtype": name_of(self._cores(0)[0].dtype),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> StructuredLinear:
        """See `tenfold.nn.recipes`."""
        structures = [Structure.from_json(text) for text in recipe["structures"]]
        alone = len(structures) == 1
        shapes = {
            core.name if alone else f"{core.name}_{n}": core.shape for n, s in enumerate(structures) for core in s.cores
        }
        fixed = {name: torch.zeros(shapes[name]) for name in recipe["fixed"]}
        # Older files know no normalisation.
        given: dict[str, Any] = {"normalize": False} | {
            key: recipe[key] for key in ("bias", "execution", "normalize") if key in recipe
        }
        return cls(structures, fixed=fixed, dtype=dtype_of(recipe["dtype"]), **given)

    @classmethod
    def from_dense(
        cls,
        weight: nn.Linear | Float[Tensor, "out_features in_features"],
        structure: Structure | Sequence[Structure],
        *,
        bias: Float[Tensor, " out_features"] | None = None,
        covariance: Float[Tensor, "in_features in_features"] | None = None,
        fixed: Mapping[str, Tensor] | None = None,
        normalize: bool = False,
    ) -> StructuredLinear:
        """The layer whose matrix is the best approximation of ``weight`` in the structure.

        Args:
            weight: the matrix, or the layer that has it.
            structure: as for the class.
            bias: the layer's bias, taken as it is; None for that of the layer given, or for none with a matrix.
            covariance: ``E[x x^T]`` of what comes in: the error is then that of the outputs,
                ``tr((W - V) C (W - V)^T)``, and not that of the entries.
            fixed: as for the class; the other cores are fitted to these.
            normalize: as for the class; gains begin with what makes the layer the one that was fitted.

        Raises:
            StructureError: the structure has another shape than the weight, or no such core to be fixed.
            DataError: numbers that are not real and finite, or a covariance of another shape.
            TenfoldError: a layer of another kind.
        """
        if isinstance(weight, nn.Module):
            if not isinstance(weight, nn.Linear):
                raise TenfoldError(f"weight must be a matrix or nn.Linear, not a {type(weight).__name__}")
            bias = weight.bias if bias is None else bias
            weight = weight.weight.detach()
        from tenfold.nn.projection import project

        settings: dict[str, Any] = {"fixed": fixed, "normalize": normalize}
        check_real(weight)
        made = cls(structure, bias=bias is not None, dtype=weight.dtype, device=weight.device, **settings)
        with torch.no_grad():
            given = [
                {
                    n: made._cores(term)[n]
                    for n, core in enumerate(one.cores)
                    if made._name(term, core.name) in made._fixed
                }
                for term, one in enumerate(made.structures)
            ]
            found = project(weight, made.structures, covariance=covariance, fixed=given)
            for term, cores in enumerate(found):
                # Of several that are zero, one is enough; were two, there would never be a gradient of either.
                zero = [n for n, core in enumerate(cores) if n not in given[term] and not core.to(weight.dtype).any()]
                for n, (mine, core) in enumerate(zip(made._cores(term), cores, strict=True)):
                    if n not in given[term] and n not in zero[:-1]:
                        mine.copy_(core)
                        level = made._levels[term][n]
                        if level is not None:
                            made.gains[made._places[term][n][0]].copy_(excess(mine, level))
            if bias is not None and made.bias is not None:
                made.bias.copy_(bias)
        return made

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        more = ", normalize=True" if self.normalize else ""
        return f"{' + '.join(map(str, self.structures))}, {super().extra_repr()}{more}"


def _made(holder: nn.ParameterDict, name: str) -> Tensor:
    """A tensor that is no parameter itself; pruning makes it before each call of its module, and this one has none."""
    for hook in holder._forward_pre_hooks.values():
        hook(holder, ())
    made: Tensor = holder[name]
    return made
