"""Observations: what they accept, what they refuse, and that every way in and out keeps every number."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tenfold.errors import DataError
from tenfold.observations import Observations

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("steady")

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
NUMBERS = st.floats(-1e3, 1e3, width=32)


@st.composite
def holed(draw):
    """A dense array with NaN in some cells, at least one known."""
    array = draw(hnp.arrays(np.float64, draw(SHAPES), elements=NUMBERS))
    missing = draw(hnp.arrays(bool, array.shape))
    missing.flat[draw(st.integers(0, array.size - 1))] = False
    array[missing] = np.nan
    return array


@st.composite
def repeated(draw, order=None):
    """Coordinates, most likely with repetitions, values and the shape."""
    side = dict(min_side=1, max_side=4)
    shape = draw(hnp.array_shapes(min_dims=order or 1, max_dims=order or 3, **side))
    count = draw(st.integers(1, 20))
    cells = st.tuples(*(st.integers(0, size - 1) for size in shape))
    coordinates = np.array(draw(st.lists(cells, min_size=count, max_size=count)))
    values = draw(hnp.arrays(np.float64, count, elements=NUMBERS))
    return coordinates, values, shape


def two_cells(**changes):
    given = dict(coordinates=torch.tensor([[0, 1], [2, 0]]), values=torch.tensor([1.0, 2.0]), shape=(3, 2))
    return Observations(**{**given, **changes})


class TestRoundTrips:
    @given(holed())
    def test_nan_and_dense(self, array):
        observations = Observations.from_nan(array)
        np.testing.assert_array_equal(observations.dense().numpy(), array)
        assert len(observations) == np.isfinite(array).sum()
        assert observations.rest == "unknown"

    @given(holed())
    def test_numpy_mask_and_observed_agree_with_nan(self, array):
        masked = Observations.from_masked(np.ma.masked_invalid(array))
        explicit = Observations.from_masked(torch.from_numpy(array), observed=~np.isnan(array))
        for observations in (masked, explicit):
            np.testing.assert_array_equal(observations.dense().numpy(), array)

    @given(holed(), st.randoms(use_true_random=False))
    def test_order_of_rows_does_not_matter(self, array, random):
        observations = Observations.from_nan(array)
        rows = list(range(len(observations)))
        random.shuffle(rows)
        shuffled = Observations.from_coo(observations.coordinates[rows], observations.values[rows], array.shape)
        np.testing.assert_array_equal(shuffled.dense().numpy(), array)
        assert torch.equal(shuffled.coalesce("error").coordinates, observations.coordinates)

    @given(holed())
    def test_linear_is_numpy_ravel(self, array):
        observations = Observations.from_nan(array)
        expected = np.ravel_multi_index(observations.coordinates.numpy().T, array.shape)
        np.testing.assert_array_equal(observations.linear().numpy(), expected)

    @given(hnp.arrays(np.float64, SHAPES, elements=NUMBERS))
    def test_norm_is_the_norm_of_the_array(self, array):
        observations = Observations.from_nan(array)
        assert observations.norm() == pytest.approx(np.linalg.norm(array.ravel()), rel=1e-12)
        weights = np.abs(array) + 1
        weighted = Observations.from_nan(array, weights=weights)
        assert weighted.norm() == pytest.approx(math.sqrt((weights * array**2).sum()), rel=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
    def test_dtype_follows_the_input(self, dtype):
        array = torch.arange(6).reshape(2, 3).to(dtype)
        observations = Observations.from_nan(array)
        assert observations.dtype is dtype
        assert torch.equal(observations.dense(), array)

    def test_weights_follow_their_cells(self):
        array = np.array([[1.0, np.nan], [3.0, 4.0]])
        weights = np.array([[5.0, 6.0], [7.0, 8.0]])
        assert Observations.from_nan(array, weights=weights).weights.tolist() == [5.0, 7.0, 8.0]

    def test_fill(self):
        observations = two_cells()
        assert torch.isnan(observations.dense()).sum() == 4
        assert two_cells(rest="zero").dense().tolist() == [[0, 1], [0, 0], [2, 0]]
        assert observations.dense(fill=-1).tolist() == [[-1, 1], [-1, -1], [2, -1]]

    def test_complex_nan_in_one_part_is_missing(self):
        observations = Observations.from_nan(np.array([1 + 2j, complex(0, np.nan), complex(np.nan, 0)]))
        assert observations.values.tolist() == [1 + 2j]

    @pytest.mark.filterwarnings("error")
    def test_arrays_torch_cannot_share(self):
        array = np.arange(6.0).reshape(2, 3)
        frozen = array.copy()
        frozen.setflags(write=False)
        for variant in (array[::-1, ::-1], array.astype(">f8"), frozen, array.T):
            np.testing.assert_array_equal(Observations.from_nan(variant).dense().numpy(), variant)


class TestCoalesce:
    @pytest.mark.parametrize("shape", [(10**7, 10**7, 10**7), (2**62, 2**62, 2**62), (3, 2**62, 2, 2**62)], ids=str)
    def test_shapes_without_a_linear_index(self, shape):
        generator = torch.Generator().manual_seed(0)
        few = torch.randint(0, 3, (60, len(shape)), generator=generator)
        steps = torch.tensor([(size - 1) // 2 for size in shape])
        values = torch.randn(60, generator=generator, dtype=torch.float64)
        far = Observations(few * steps.clamp(min=1), values, tuple(max(size, 3) for size in shape))
        near = Observations(few, values, (3,) * len(shape))
        assert far.distinct == near.distinct < 60
        merged, wanted = far.coalesce(), near.coalesce()
        torch.testing.assert_close(merged.values, wanted.values)
        assert torch.equal(merged.coordinates, wanted.coordinates * steps.clamp(min=1))

    @given(repeated(order=2))
    def test_sum_is_scipys(self, data):
        sparse = pytest.importorskip("scipy.sparse")
        coordinates, values, shape = data
        expected = sparse.coo_array((values, tuple(coordinates.T)), shape=shape)
        expected.sum_duplicates()
        order = np.lexsort((expected.col, expected.row))
        found = Observations.from_coo(coordinates, values, shape).coalesce("sum")
        np.testing.assert_array_equal(found.coordinates[:, 0].numpy(), expected.row[order])
        np.testing.assert_array_equal(found.coordinates[:, 1].numpy(), expected.col[order])
        np.testing.assert_allclose(found.values.numpy(), expected.data[order], rtol=1e-12, atol=1e-9)
        assert found.distinct == len(found)

    @given(repeated(), st.sampled_from(["mean", "max", "sum"]), st.booleans())
    def test_each_cell_against_a_loop(self, data, policy, weighted):
        coordinates, values, shape = data
        w = np.random.default_rng(0).uniform(0.5, 2, len(values)) if weighted else None
        found = Observations.from_coo(coordinates, values, shape, weights=w).coalesce(policy)
        cells = sorted(set(map(tuple, coordinates.tolist())))
        assert list(map(tuple, found.coordinates.tolist())) == cells
        for row, cell in enumerate(cells):
            at = (coordinates == cell).all(1)
            value, weight = {
                "sum": lambda y, u: (y.sum(), 1 / (1 / u).sum()),
                "mean": lambda y, u: ((u * y).sum() / u.sum(), u.sum()),
                "max": lambda y, u: (y.max(), u[y == y.max()].max()),
            }[policy](values[at], np.ones(at.sum()) if w is None else w[at])
            assert found.values[row].item() == pytest.approx(value, rel=1e-9, abs=1e-9)
            if weighted or (policy == "mean" and len(cells) < len(values)):
                assert found.weights[row].item() == pytest.approx(weight)
            else:
                assert found.weights is None

    @given(repeated())
    def test_mean_moves_every_least_squares_loss_by_one_constant(self, data):
        coordinates, values, shape = data
        many = Observations.from_coo(coordinates, values, shape)
        few = many.coalesce("mean")

        def loss(observations, model):
            weights = 1 if observations.weights is None else observations.weights
            return (weights * (observations.values - model[observations.linear()]) ** 2).sum().item()

        models = np.random.default_rng(0).normal(size=(3, math.prod(shape)))
        gaps = [loss(many, torch.from_numpy(m)) - loss(few, torch.from_numpy(m)) for m in models]
        np.testing.assert_allclose(gaps, gaps[0], rtol=1e-6, atol=1e-6 * (1 + many.norm() ** 2))

    def test_error_policy(self):
        assert len(two_cells().coalesce("error")) == 2
        with pytest.raises(DataError, match=r"lists \(1, 1\) 2 times"):
            Observations.from_coo([[1, 1], [0, 0], [1, 1]], [1, 2, 3]).coalesce("error")

    def test_zero_weights(self):
        observations = Observations.from_coo([[0], [0], [1]], [1.0, 3.0, 5.0], weights=[0, 0, 1])
        for policy, value in (("sum", 4), ("mean", 2), ("max", 3)):
            merged = observations.coalesce(policy)
            assert merged.values.tolist() == [value, 5]
            assert merged.weights.tolist() == [0, 1]

    def test_more_cells_than_int64(self):
        huge = Observations.from_coo([[5, 7, 9], [1, 2, 3], [5, 7, 9]], [1, 2, 3], shape=(2**31,) * 3)
        assert huge.size == 2**93
        assert huge.coalesce("sum").values.tolist() == [2, 4]
        assert huge.coalesce("sum").coordinates.tolist() == [[1, 2, 3], [5, 7, 9]]
        with pytest.raises(DataError, match="too many for an int64 linear index"):
            huge.linear()

    def test_is_differentiable(self):
        values = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
        merged = Observations(torch.tensor([[0], [1], [0]]), values, (2,)).coalesce("mean")
        (gradient,) = torch.autograd.grad(merged.values[0], values)
        assert gradient.tolist() == [0.5, 0, 0.5]

    def test_sparse_mean_has_no_weights_of_its_own(self):
        sparse = Observations.from_coo([[0], [0], [1]], [1, 2, 3], rest="zero", duplicates="mean")
        assert sparse.weights is None
        assert sparse.values.tolist() == [1.5, 3]

    def test_refuses(self):
        with pytest.raises(DataError, match="policy is 'median'"):
            two_cells().coalesce("median")
        with pytest.raises(DataError, match="have no order"):
            two_cells().to(torch.complex64).coalesce("max")


class TestWithAxes:
    @given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=3), st.data())
    def test_is_reshape(self, factors, data):
        shape = tuple(map(math.prod, factors))
        array = data.draw(hnp.arrays(np.float64, shape, elements=NUMBERS, unique=False))
        array.flat[1::2] = np.nan
        refined = Observations.from_nan(array).with_axes(factors)
        flat = [size for group in factors for size in group]
        assert refined.shape == tuple(flat)
        np.testing.assert_array_equal(refined.dense().numpy(), array.reshape(flat))

    def test_drops_a_mode_of_size_one(self):
        assert Observations.from_nan(np.ones((1, 4))).with_axes([(), (2, 2)]).shape == (2, 2)

    def test_refuses(self):
        with pytest.raises(DataError, match=r"factors\[0\] is \(2, 2\), of product 4: mode 0 has size 3"):
            two_cells().with_axes([(2, 2), (2,)])
        with pytest.raises(DataError, match="factors has 1 groups for 2 modes"):
            two_cells().with_axes([(3,)])


class TestSplit:
    @given(repeated(), st.floats(0.01, 0.99), st.integers(0, 2**31))
    def test_is_a_partition_by_cells(self, data, fraction, seed):
        coordinates, _, shape = data
        cells = len(set(map(tuple, coordinates.tolist())))
        observations = Observations.from_coo(coordinates, np.arange(len(coordinates)), shape)
        if cells < 2:
            with pytest.raises(DataError, match="at least 2 distinct cells"):
                observations.split(fraction, seed)
            return
        train, held = observations.split(fraction, seed)
        assert sorted(train.values.tolist() + held.values.tolist()) == list(range(len(coordinates)))
        for part in (train, held):
            np.testing.assert_array_equal(part.coordinates.numpy(), coordinates[part.values.long().numpy()])
            assert part.shape == shape
        assert not set(train.linear().tolist()) & set(held.linear().tolist())
        assert held.distinct == min(max(round(fraction * cells), 1), cells - 1)

    def test_seed(self):
        observations = Observations.from_nan(np.arange(1000.0))
        state = torch.random.get_rng_state()
        first, again, other = (observations.split(0.3, seed)[1].values for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(state, torch.random.get_rng_state())

    def test_weight_zero_stays_in_train(self):
        observations = Observations.from_nan(np.arange(4.0), weights=[0, 1, 1, 0])
        for seed in range(5):
            train, held = observations.split(0.9, seed)
            assert set(held.values.tolist()) < {1.0, 2.0}
            assert {0.0, 3.0} < set(train.values.tolist())

    def test_refuses(self):
        with pytest.raises(DataError, match="would read as zero"):
            two_cells(rest="zero").split(0.5, 0)
        for fraction in (0, 1, -0.1, math.nan):
            with pytest.raises(DataError, match="fraction is"):
                two_cells().split(fraction, 0)


class TestSparse:
    @given(hnp.arrays(np.float64, (3, 4), elements=st.sampled_from([0.0, 0.0, 1.5, -2.0])))
    def test_every_format(self, array):
        scipy_sparse = pytest.importorskip("scipy.sparse")
        pydata = pytest.importorskip("sparse")
        tensor = torch.from_numpy(array)
        formats = ("coo", "csr", "csc", "lil", "dok", "dia", "bsr")
        given = [getattr(scipy_sparse, f"{kind}_array")(array) for kind in formats]
        given += [getattr(scipy_sparse, f"{kind}_matrix")(array) for kind in formats]
        given += [tensor.to_sparse(), tensor.to_sparse_csr(), tensor.to_sparse_csc()]
        given += [pydata.COO(array), pydata.GCXS(array), pydata.DOK.from_numpy(array)]
        for each in given:
            if not array.any():
                continue
            observations = Observations.from_sparse(each)
            assert observations.rest == "zero"
            np.testing.assert_array_equal(observations.dense().numpy(), array, err_msg=str(type(each)))

    def test_entries_stored_twice_are_added(self):
        scipy_sparse = pytest.importorskip("scipy.sparse")
        twice = scipy_sparse.coo_array(([1, 2, 4], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
        assert Observations.from_sparse(twice).dense().tolist() == [[0, 3], [4, 0]]
        assert len(twice.data) == 3
        flags = scipy_sparse.coo_array(([True, True], ([0, 0], [1, 1])), shape=(1, 2))
        assert Observations.from_sparse(flags).dense().tolist() == flags.toarray().tolist() == [[0, 1]]
        tensor = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 0]], [1.0, 2.0, 4.0], (2, 2))
        assert Observations.from_sparse(tensor).dense().tolist() == [[0, 3], [4, 0]]

    def test_stored_zeros_are_known(self):
        scipy_sparse = pytest.importorskip("scipy.sparse")
        stored = scipy_sparse.coo_array(([0.0, 2.0], ([0, 1], [1, 0])), shape=(2, 2))
        known = Observations.from_sparse(stored, rest="unknown")
        np.testing.assert_array_equal(known.dense().numpy(), [[np.nan, 0], [2, np.nan]])

    def test_refuses(self):
        pydata = pytest.importorskip("sparse")
        with pytest.raises(DataError, match="fill value 1"):
            Observations.from_sparse(pydata.COO(np.eye(2)) + 1)
        hybrid = torch.sparse_coo_tensor([[0]], torch.ones(1, 2), (3, 2))
        with pytest.raises(DataError, match="1 dense dimensions"):
            Observations.from_sparse(hybrid)
        with pytest.raises(DataError, match="array is a ndarray"):
            Observations.from_sparse(np.eye(2))
        with pytest.raises(DataError, match="nothing was observed"):
            Observations.from_sparse(torch.zeros(2, 2).to_sparse())


def tables(columns):
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    return [pandas.DataFrame(columns), pyarrow.table(columns)]


class TestTable:
    def test_indices_and_levels(self):
        columns = {"user": [3, 0, 3], "film": ["b", "a", "c"], "stars": [4, 5, 1], "trust": [1.0, 2.0, 0.5]}
        for table in tables(columns):
            found, levels = Observations.from_table(table, value="stars", modes=["user", "film"], weights="trust")
            assert found.shape == (4, 3)
            assert found.coordinates.tolist() == [[3, 1], [0, 0], [3, 2]]
            assert found.values.tolist() == [4, 5, 1]
            assert found.weights.tolist() == [1, 2, 0.5]
            assert {name: list(level) for name, level in levels.items()} == {"film": ["a", "b", "c"]}

    def test_integer_labels(self):
        for table in tables({"year": [1990, -5, 1990], "x": [1.5, 2.5, 1.5], "y": [1, 2, 3]}):
            found, levels = Observations.from_table(table, value="y", modes=["year", "x"], levels=True)
            assert found.shape == (2, 2)
            assert found.coordinates.tolist() == [[1, 0], [0, 1], [1, 0]]
            assert {name: level.tolist() for name, level in levels.items()} == {
                "year": [-5, 1990],
                "x": [1.5, 2.5],
            }

    def test_dates_and_given_shape(self):
        days = np.array(["2024-03-02", "2024-03-01"], dtype="datetime64[s]")
        for table in tables({"day": days, "k": [0, 1], "y": [1.0, 2.0]}):
            found, levels = Observations.from_table(table, value="y", modes=["day", "k"], shape=(2, 9))
            assert found.shape == (2, 9)
            assert found.coordinates.tolist() == [[1, 0], [0, 1]]
            assert levels["day"].tolist() == sorted(days.tolist())

    def test_duplicates(self):
        for table in tables({"a": [0, 0, 1], "y": [1.0, 2.0, 5.0]}):
            kept, _ = Observations.from_table(table, value="y", modes=["a"])
            assert len(kept) == 3
            summed, _ = Observations.from_table(table, value="y", modes=["a"], rest="zero", duplicates="sum")
            assert summed.dense().tolist() == [3, 5]
            with pytest.raises(DataError, match="duplicates='sum'"):
                Observations.from_table(table, value="y", modes=["a"], rest="zero")

    def test_pandas_kinds(self):
        pandas = pytest.importorskip("pandas")
        sizes = pandas.Categorical(["L", "S", "L"], categories=["S", "M", "L"], ordered=True)
        table = pandas.DataFrame({"size": sizes, "k": pandas.array([1, 0, 2], dtype="Int64"), "y": [1, 2, 3]})
        table.index = [7, 7, 7]
        found, levels = Observations.from_table(table, value="y", modes=["size", "k"])
        assert list(levels["size"]) == ["S", "L"]
        assert found.coordinates.tolist() == [[1, 1], [0, 0], [1, 2]]

    def test_arrow_kinds(self):
        pyarrow = pytest.importorskip("pyarrow")
        pieces = pyarrow.chunked_array([["b", "a"], ["c", "b"]])
        coded = pyarrow.DictionaryArray.from_arrays([2, 0, 2, 0], ["x", "unused", "w"])
        table = pyarrow.table({"p": pieces, "q": coded, "y": [1.0, 2.0, 3.0, 4.0]})
        found, levels = Observations.from_table(table, value="y", modes=["p", "q"])
        assert list(levels["p"]) == ["a", "b", "c"]
        assert list(levels["q"]) == ["w", "x"]
        assert found.coordinates.tolist() == [[1, 0], [0, 1], [2, 0], [1, 1]]

    def test_refuses(self):
        columns = {"a": [0, -1], "b": ["u", None], "y": [1.0, None], "z": [1.0, 2.0]}
        for table in tables(columns):
            for message, asked in {
                "column 'a' holds -1 at row 1": {"value": "z", "modes": ["a"]},
                "column 'b' has no entry at row 1": {"value": "z", "modes": ["b"]},
                "column 'y' has no entry at row 1": {"value": "y", "modes": ["z"]},
                "column 'q' is in the table 0 times: columns are a, b, y, z": {"value": "z", "modes": ["q"]},
                "modes is 'a'": {"value": "z", "modes": "a"},
                r"modes is \['z'\]": {"value": "z", "modes": ["z"]},
                r"modes is \[\]": {"value": "z", "modes": []},
            }.items():
                with pytest.raises(DataError, match=message):
                    Observations.from_table(table, **asked)
        with pytest.raises(DataError, match="table is a dict"):
            Observations.from_table(columns, value="y", modes=["a"])
        with pytest.raises(DataError, match="column 'w' has dtype"):
            Observations.from_table(tables({"a": [0], "w": ["text"]})[0], value="w", modes=["a"])


class TestContinuous:
    def test_grid(self):
        points = Observations.from_coo([[0.5, 2.0], [-1.0, 2.0], [0.5, 3.0]], [1, 2, 3], weights=[1, 2, 3])
        assert points.continuous
        assert points.shape is None
        grid, levels = points.on_grid()
        assert grid.shape == (2, 2)
        assert grid.weights.tolist() == [1, 2, 3]
        assert [level.tolist() for level in levels] == [[-1, 0.5], [2, 3]]
        back = torch.stack([level[grid.coordinates[:, mode]] for mode, level in enumerate(levels)], 1)
        assert torch.equal(back, points.coordinates)

    def test_rounding_merges_points(self):
        grid, levels = Observations.from_coo([[0.11], [0.12], [0.31]], [1.0, 3.0, 5.0]).on_grid(decimals=1)
        assert levels[0].tolist() == pytest.approx([0.1, 0.3])
        assert grid.coalesce("mean").dense().tolist() == [2, 5]

    def test_repeated_points(self):
        points = Observations.from_coo([[0.5], [0.25], [0.5]], [1, 2, 4])
        assert points.distinct == 2
        assert points.coalesce("sum").values.tolist() == [2, 5]
        assert "3 points of 1 continuous modes" in repr(points)

    def test_refuses(self):
        points = Observations.from_coo([[0.5], [1e300]], [1.0, 2.0])
        for ask in (
            lambda: points.size,
            lambda: points.density,
            points.linear,
            points.dense,
            lambda: points.with_axes([(1,)]),
        ):
            with pytest.raises(DataError, match="use on_grid"):
                ask()
        with pytest.raises(DataError, match="decimals is 20, too many"):
            points.on_grid(20)
        with pytest.raises(DataError, match="on a grid already"):
            two_cells().on_grid()


REFUSED = {
    r"values\[1\] is nan: leave it out": dict(values=torch.tensor([1.0, math.nan])),
    r"values\[0\] is inf": dict(values=torch.tensor([math.inf, 1.0])),
    r"coordinates\[1, 0\] is 3, outside of mode 0 of size 3: .* 0 to 2": dict(
        coordinates=torch.tensor([[0, 1], [3, 0]])
    ),
    r"coordinates\[0, 1\] is -1, outside": dict(coordinates=torch.tensor([[0, -1], [1, 0]])),
    r"coordinates\[0, 1\] is nan": dict(coordinates=torch.tensor([[0.0, math.nan], [1, 0]]), shape=None),
    r"weights\[1\] is -1": dict(weights=torch.tensor([1.0, -1.0])),
    r"weights\[1\] is inf": dict(weights=torch.tensor([1.0, math.inf])),
    "weights are all zero": dict(weights=torch.zeros(2)),
    "weights has 3 entries for 2 values": dict(weights=torch.ones(3)),
    "weights has dtype float64: give float32": dict(weights=torch.ones(2, dtype=torch.float64)),
    "values has 3 entries for 2 rows": dict(values=torch.ones(3)),
    r"values has shape \(2, 1\)": dict(values=torch.ones(2, 1)),
    "values has dtype int64": dict(values=torch.tensor([1, 2])),
    "values is a list": dict(values=[1.0, 2.0]),
    "coordinates has dtype int32": dict(coordinates=torch.zeros(2, 2, dtype=torch.int32)),
    r"coordinates has shape \(2,\)": dict(coordinates=torch.tensor([0, 1])),
    "nothing was observed": dict(coordinates=torch.zeros(0, 2, dtype=torch.int64), values=torch.zeros(0)),
    "coordinates has no column": dict(coordinates=torch.zeros(2, 0, dtype=torch.int64), shape=()),
    r"shape \(3, 2, 1\) has 3 modes and coordinates has 2 columns": dict(shape=(3, 2, 1)),
    r"shape\[1\] is 0": dict(shape=(3, 0)),
    r"shape\[0\] is 3.0": dict(shape=(3.0, 2)),
    r"shape\[0\] is 9223372036854775808: a mode": dict(shape=(2**63, 2)),
    "shape is None with integer coordinates": dict(shape=None),
    r"shape \(3, 2\) given with floating coordinates": dict(coordinates=torch.rand(2, 2)),
    "rest 'zero' given with floating": dict(coordinates=torch.rand(2, 2), shape=None, rest="zero"),
    "rest is 'missing'": dict(rest="missing"),
    r"coordinates lists cell \(0, 1\) 2 times": dict(coordinates=torch.tensor([[0, 1], [0, 1]]), rest="zero"),
    "coordinates is on meta": dict(coordinates=torch.zeros(2, 2, device="meta", dtype=torch.int64)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refuses_with_one_line(message):
    with pytest.raises(DataError, match=message) as refusal:
        two_cells(**REFUSED[message])
    assert "\n" not in str(refusal.value)


CONVERSIONS = {
    "2\\*\\*63 or more": lambda: Observations.from_coo(np.array([[2**63]], dtype=np.uint64), [1.0]),
    r"coordinates\[0, 0\] is -2: indices count from 0": lambda: Observations.from_coo([[-2]], [1.0]),
    "coordinates has dtype object": lambda: Observations.from_coo([[2**70]], [1.0]),
    "values is no array of numbers": lambda: Observations.from_coo([[0], [1]], [[1.0], [1.0, 2.0]]),
    "values has dtype <U1": lambda: Observations.from_coo([[0]], ["a"]),
    "values has dtype longdouble|values has dtype float128": lambda: Observations.from_coo(
        [[0]], np.ones(1, np.longdouble)
    ),
    "coordinates has dtype bool": lambda: Observations.from_coo([[True]], [1.0]),
    "coordinates has no row": lambda: Observations.from_coo([], []),
    "use Observations.from_masked": lambda: Observations.from_nan(np.ma.masked_equal([1, 2], 1)),
    "use Observations.from_sparse": lambda: Observations.from_nan(torch.eye(2).to_sparse()),
    "has no known cell": lambda: Observations.from_nan(np.full((2, 2), np.nan)),
    r"values\[1\] is inf": lambda: Observations.from_nan([1.0, np.inf]),
    "array has no mode": lambda: Observations.from_nan(3.0),
    "observed is None": lambda: Observations.from_masked(np.eye(2)),
    "give one of the two": lambda: Observations.from_masked(np.ma.masked_equal([1, 2], 1), [True, True]),
    "observed has dtype torch.int64": lambda: Observations.from_masked([1.0, 2.0], [0, 1]),
    r"observed has shape \(1,\) and array \(2,\)": lambda: Observations.from_masked([1.0, 2.0], [True]),
    r"weights has shape \(1,\) and array \(2,\)": lambda: Observations.from_nan([1.0, 2.0], weights=[1.0]),
    "max_bytes is 8589934592 and dense": lambda: Observations.from_coo([[0] * 4], [1], (10**6,) * 4).dense(),
    "dense\\(\\) takes it once": lambda: Observations.from_coo([[0], [0]], [1, 2]).dense(),
    "fill is 1j": lambda: two_cells().dense(1j),
    "drop the imaginary part": lambda: two_cells().to(torch.complex64).to(torch.float32),
    "dtype torch.int64 given": lambda: two_cells().to(torch.int64),
    r"values\[1\] is inf: ": lambda: Observations.from_nan([1.0, 1e9]).to(torch.float16),
}


@pytest.mark.parametrize("message", CONVERSIONS)
def test_conversions_refuse_with_one_line(message):
    if "longdouble" in message and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long double is double on this platform")
    with pytest.raises(DataError, match=message) as refusal:
        CONVERSIONS[message]()
    assert "\n" not in str(refusal.value)


def test_from_coo_defaults():
    observations = Observations.from_coo(np.array([[0, 4], [2, 1]], dtype=np.uint8), np.array([1, 2], np.int32))
    assert observations.shape == (3, 5)
    assert observations.dtype is torch.float64
    assert observations.coordinates.dtype is torch.int64
    single = Observations.from_coo([[1]], torch.tensor([1.0]), weights=[3])
    assert single.weights.dtype is torch.float32


def test_size_density_and_order():
    observations = Observations.from_coo([[0, 0], [0, 0], [1, 1]], [1, 2, 3], shape=(2, 5))
    assert (len(observations), observations.distinct, observations.size, observations.order) == (3, 2, 10, 2)
    assert observations.density == 0.2


def test_to():
    observations = two_cells(weights=torch.tensor([1.0, 2.0]))
    double = observations.to(torch.complex128)
    assert (double.dtype, double.weights.dtype) == (torch.complex128, torch.float64)
    assert observations.to("cpu", torch.float64).dtype is torch.float64
    assert observations.to(dtype=torch.float64).device == torch.device("cpu")


def test_norm_survives_extremes():
    assert Observations.from_nan([3e200, 4e200]).norm() == pytest.approx(5e200)
    assert Observations.from_nan([3e-200, 4e-200]).norm() == pytest.approx(5e-200)
    assert Observations.from_nan(torch.full((5000,), 100.0, dtype=torch.float16)).norm() == pytest.approx(
        100 * math.sqrt(5000)
    )
    assert Observations.from_nan([0.0, 0.0]).norm() == 0.0


def test_repr():
    cells = torch.randperm(10**6, generator=torch.Generator().manual_seed(0))[:12345]
    coordinates = torch.stack([cells // 10**4, cells // 100 % 100, cells % 100], 1)
    observations = Observations(coordinates, torch.ones(12345), (100, 100, 100))
    assert repr(observations) == ("Observations(12 345 of 1 000 000 cells of 100 x 100 x 100, 1.23 %, rest unknown)")
    again = Observations.from_coo([[0], [0]], [1, 2], (4,), weights=[1, 2])
    assert repr(again) == "Observations(1 of 4 cells of 4, 25 %, rest unknown, 2 values, weighted)"


def test_frozen():
    with pytest.raises(AttributeError):
        two_cells().rest = "zero"


def test_importing_needs_no_table_or_sparse_library():
    import subprocess
    import sys

    code = (
        "import sys, tenfold.observations; "
        "print([m for m in ('pandas', 'pyarrow', 'scipy.sparse', 'sparse') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
