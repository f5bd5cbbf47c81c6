"""The claim on functions of continuous indices says which sets and forms are not as claimed."""

from __future__ import annotations

import pytest

from tenfold.claims import funbat


def test_what_is_worse_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"cp": (0.1, 0.2), "tucker": (0.3, 0.2)}
    monkeypatch.setattr(funbat, "functional", lambda data, form, *rest: errors[form][0])
    monkeypatch.setattr(funbat, "tabled", lambda data, form, *rest: errors[form][1])
    monkeypatch.delenv("TENFOLD_DATA", raising=False)
    found = funbat.funbat()
    assert not found.holds
    assert found.text.splitlines()[-1] == "Functions are not better: tucker of IL-2 responses"
    errors["tucker"] = (0.1, 0.2)
    assert funbat.funbat().holds


def test_the_table_has_a_cell_for_every_level() -> None:
    data = funbat.responses(0)
    cells, shape = data.cells(data.task.coordinates)
    assert shape == tuple(len(column.unique()) for column in data.task.coordinates.T)
    assert (cells.max(0).values + 1).tolist() == list(shape)
