"""What a method of this room returns: a `Model`, its `Prediction`, and the `State` that a file keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is predicted at some points, in the units of the values of the `Task`.

    Attributes:
        mean: the posterior mean of the function (for counts the expected count).
        variance: the posterior variance of the function, not of what would be observed; None of a method that has none.
        noise: the variance of an observation around the function, one for each point or one for all; for counts the
            Poisson variance is not in it.
    """

    mean: Float[Tensor, " m"]
    variance: Float[Tensor, " m"] | None
    noise: Float[Tensor, "..."]


@dataclass(frozen=True, eq=False)
class State:
    """Everything that makes a model anew, or lets its fit go on.

    Attributes:
        tensors: by name.
        facts: what JSON can hold.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class Model(Protocol):
    """A fitted model.

    Attributes:
        errors: after each epoch the root mean square of the residuals (for counts the mean deviance), as the fit saw
            it.
        stopped: why it ended: ``"tol"`` or ``"epochs"``, ``"exact"`` where nothing was iterated.
        parameters: how many numbers the model has.
        evidence: the (approximate) log marginal likelihood of the observations, where the method knows it.
    """

    @property
    def errors(self) -> tuple[float, ...]: ...

    @property
    def stopped(self) -> str: ...

    @property
    def parameters(self) -> int: ...

    @property
    def evidence(self) -> float | None: ...

    def predict(self, coordinates: Float[Tensor, "m N"], attributes: Float[Tensor, "m D"] | None = None) -> Prediction:
        """Predict anywhere; coordinates are as in the `Task`."""
        ...

    def state(self) -> State:
        """What the registered ``restore`` makes an equal model of."""
        ...
