from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest


@pytest.fixture
def tensorly_on_torch() -> Iterator[None]:
    """TensorLy-Torch turns TensorLy to torch for the whole process when it is imported; others expect NumPy."""
    if find_spec("tltorch") is None:
        yield
        return
    import tensorly

    before = tensorly.get_backend()
    tensorly.set_backend("pytorch")
    yield
    sys.modules["tensorly"].set_backend(before)
