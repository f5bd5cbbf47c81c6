"""Arrays that are projected while they are read: the same result as in memory, however they are read."""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import tenfold as tn
from tenfold import formats
from tenfold._threads import threads_for
from tenfold._trees import bond_limits
from tenfold.decomposition import find, relative_error, streamed_svd
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.structure import Structure

MEMORY = 10**7
CUBE = (88, 88, 88)


def planted(structure: Structure, noise: float = 0.1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    signal_ = tn.Network.random(structure, seed=1, dtype=dtype).dense()
    random = torch.randn(signal_.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return signal_ + noise * signal_.norm() / random.norm() * random


STRUCTURES = {
    "tucker": formats.tucker(CUBE, 4),
    "cp": formats.cp(CUBE, 3),
    "tensor ring": formats.tensor_ring(CUBE, [3, 3, 3]),
    "tensor train": formats.tensor_train(CUBE, 4),
    "train of short modes": formats.tensor_train((9,) * 6, 4),
    "hierarchical tucker": formats.hierarchical_tucker((9,) * 6, 4),
    "train of matrices": formats.tensor_train_matrix((9, 9, 9), (9, 9, 9), 4),
    "folded axis": Structure("x a, a y b, b z -> (x y) z", x=80, y=12, z=600, a=4, b=4),
    "symmetric": Structure("U[i r], U[j r], k r -> i j k", i=60, j=60, k=88, r=2),
    "two bonds": Structure("i a b, a b j -> i j", i=800, j=700, a=2, b=2),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_as_good_as_in_memory(name: str) -> None:
    structure = STRUCTURES[name]
    data = planted(structure)
    found = streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY, seed=1)
    assert found.network.structure == structure
    assert found.error == pytest.approx(relative_error(data, found.network), rel=1e-9)
    # The noise is a hundredth of the squared norm of the signal, less what the parameters take up of it.
    assert found.error <= 1.002 * 0.1 / math.sqrt(1.01)


@pytest.mark.parametrize("name", ["tucker", "train of short modes", "hierarchical tucker"])
def test_without_noise_the_structure_is_found(name: str) -> None:
    data = planted(STRUCTURES[name], noise=0.0)
    found = streamed_svd(tn.Blocks.of(data), STRUCTURES[name], memory=MEMORY)
    assert found.error < 1e-12
    assert relative_error(data, found.network) < 1e-12


@pytest.mark.parametrize("name", ["tucker", "tensor train", "train of short modes", "hierarchical tucker"])
@pytest.mark.parametrize("error", [0.3, 0.105])
def test_ranks_for_an_error(name: str, error: float) -> None:
    data = planted(STRUCTURES[name])
    found = streamed_svd(tn.Blocks.of(data), _widest(STRUCTURES[name]), error=error, memory=MEMORY)
    assert found.error <= error
    assert found.error == pytest.approx(relative_error(data, found.network), rel=1e-9)
    # The planted ranks reach 0.1.
    assert found.network.parameters <= STRUCTURES[name].parameters


def _widest(structure: Structure) -> Structure:
    return structure.replace(bond_limits(structure))


def test_ranks_of_a_structure_limit_those_of_an_error() -> None:
    structure = STRUCTURES["tucker"].replace(a=6, b=6, c=6)
    data = planted(STRUCTURES["tucker"])
    found = streamed_svd(tn.Blocks.of(data), structure, error=0.105, memory=MEMORY)
    assert found.error <= 0.105
    assert all(found.network.structure.sizes[bond] <= 6 for bond in "abc")
    above = streamed_svd(tn.Blocks.of(data), STRUCTURES["tucker"].replace(a=2), error=0.105, memory=MEMORY)
    assert above.error > 0.105
    assert above.error == pytest.approx(relative_error(data, above.network), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.complex128])
def test_dtypes(dtype: torch.dtype) -> None:
    structure = formats.tucker((70, 70, 70), 3)
    data = planted(structure, dtype=dtype)
    found = streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY)
    assert found.network.dtype == dtype
    reference = find("tree_svd").function(data, structure)
    assert found.error == pytest.approx(reference.error, rel=1e-3)
    assert relative_error(data, found.network) == pytest.approx(found.error, rel=1e-5)


@pytest.mark.parametrize("scale", [1e150, 1e-150, 1e-300])
def test_numbers_whose_squares_are_out_of_range(scale: float) -> None:
    structure = STRUCTURES["tucker"]
    data = planted(structure) * scale
    found = streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY)
    assert 0.09 < found.error < 0.1
    assert relative_error(data / scale, _over(found.network, scale)) == pytest.approx(found.error, rel=1e-6)


def _over(network: tn.Network, scale: float) -> tn.Network:
    return network.replace([core / scale ** (1 / len(network.cores)) for core in network.cores])


@pytest.mark.parametrize("structure", [formats.tucker(CUBE, 2), formats.tensor_train((9,) * 6, 2)])
def test_nothing_but_zeros(structure: Structure) -> None:
    found = streamed_svd(tn.Blocks.of(np.zeros(structure.shape)), structure, memory=MEMORY)
    assert found.error == 0
    assert float(found.network.norm()) == 0


def test_what_fits_is_read_once() -> None:
    structure = formats.tucker((30, 30, 30), 3)
    data = planted(structure)
    passes = set()
    found = streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY, watch=lambda name, *_: passes.add(name))
    assert passes == {"reading"}
    assert found.error == pytest.approx(find("tree_svd").function(data, structure).error, rel=1e-6)


def test_long_modes_without_their_gram_matrix() -> None:
    structure = formats.tucker((6000, 400, 3), [3, 3, 2])
    data = planted(structure)
    found = streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY)
    assert found.error <= find("tree_svd").function(data, structure).error * 1.0001


def test_several_stages_where_one_is_not_enough() -> None:
    # The first projections leave more than fits, which goes to a file.
    structure = formats.tucker((300, 60, 300), [20, 20, 20])
    data = planted(structure)
    passes = set()
    blocks = tn.Blocks(tn.Blocks.of(data).read, data.shape, float, chunks=(60, 2, 60))
    found = streamed_svd(blocks, structure, memory=MEMORY, watch=lambda name, *_: passes.add(name))
    assert "projecting (stage 2)" in passes
    assert found.error == pytest.approx(relative_error(data, found.network), rel=1e-9)
    assert found.error <= find("tree_svd").function(data, structure).error * 1.001


def test_a_start_and_another_method() -> None:
    structure = STRUCTURES["cp"]
    data = planted(structure)
    exact = tn.Network.random(structure, seed=1)
    found = streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY, init=exact, inner="als", max_sweeps=2)
    assert found.error < 0.1
    with pytest.raises(TenfoldError, match="whole arrays"):
        streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY, inner="streamed_svd")


def test_what_is_refused() -> None:
    structure = STRUCTURES["tucker"]
    data = planted(structure)
    with pytest.raises(DataError, match="box by box"):
        streamed_svd(data, structure)
    with pytest.raises(DataError, match="shape"):
        streamed_svd(tn.Blocks.of(data[1:]), structure)
    with pytest.raises(TenfoldError, match="memory 10 MB is too little for the error asked for"):
        streamed_svd(tn.Blocks.of(torch.randn(CUBE)), _widest(structure), error=0.01, memory=MEMORY)
    large = tn.Blocks(tn.Blocks.of(data).read, CUBE, float, chunks=CUBE)
    with pytest.raises(TenfoldError, match=r"chunks of data have up to 681,472 entries.*at least 22 MB"):
        streamed_svd(large, structure, memory=MEMORY)
    data[80, 3, 2] = math.nan
    with pytest.raises(DataError, match=r"NaN at \(80, 3, 2\)"):
        streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY)
    with pytest.raises(DataError, match="streamed_svd"):
        find("als").function(tn.Blocks.of(data), structure)  # type: ignore[arg-type]


def test_memory_chunks_and_seed_leave_the_error_where_it_is() -> None:
    structure = STRUCTURES["tucker"]
    data = planted(structure)
    read = tn.Blocks.of(data).read
    errors = [
        streamed_svd(tn.Blocks(read, CUBE, float, chunks=chunks), structure, memory=memory, seed=seed).error
        for chunks, memory, seed in [(None, MEMORY, 0), ((11, 30, 88), 2 * MEMORY, 1), ((88, 20, 7), MEMORY, 2)]
    ]
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-6)


# --- interrupted ------------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def bits(network: tn.Network) -> list[bytes]:
    return [core.numpy().tobytes() for core in network.cores]


@pytest.mark.parametrize("name", ["tucker", "train of short modes"])
def test_an_interrupted_run_ends_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    structure = STRUCTURES[name]
    blocks = tn.Blocks.of(planted(structure))
    boxes = {}
    alone = streamed_svd(blocks, structure, memory=MEMORY, watch=lambda label, _, n: boxes.__setitem__(label, n))
    for number, (label, total) in enumerate(boxes.items()):
        at = total * (number + 1) // (len(boxes) + 1)

        def stop(now: str, done: int, _: int, label: str = label, at: int = at) -> None:
            if now == label and done == at:
                raise Stop

        with pytest.raises(Stop):
            streamed_svd(blocks, structure, memory=MEMORY, checkpoint=tmp_path, watch=stop)
    seen: dict[str, int] = {}
    again = streamed_svd(
        blocks, structure, memory=MEMORY, checkpoint=tmp_path, watch=lambda label, done, _: seen.setdefault(label, done)
    )
    # Nothing is done again but the pass that was begun, and of that not its beginning.
    assert len(seen) == 1
    assert next(iter(seen.values())) > 0
    assert bits(again.network) == bits(alone.network)
    assert again.error == alone.error


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    structure = STRUCTURES["tucker"]
    data = planted(structure)

    def run(data: torch.Tensor, folder: Path, structure: Structure = structure, **more: object) -> None:
        streamed_svd(tn.Blocks.of(data), structure, **{"memory": MEMORY, "checkpoint": folder, **more})  # type: ignore[arg-type]

    run(data, tmp_path / "a")
    for what, more in {"seed": {"seed": 3}, "memory": {"memory": 2 * MEMORY}, "error": {"error": 0.5}}.items():
        with pytest.raises(TenfoldError, match=f"of another run: {what} was"):
            run(data, tmp_path / "a", **more)
    with pytest.raises(TenfoldError, match="of another run: data was"):
        run(data + 1, tmp_path / "a")
    with pytest.raises(TenfoldError, match="of another run: structure was"):
        run(data, tmp_path / "a", structure.replace(a=2))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("mine")
    with pytest.raises(FileError, match="other things"):
        run(data, tmp_path / "b")
    (tmp_path / "a" / "about.json").write_text("{")
    with pytest.raises(FileError, match="damaged"):
        run(data, tmp_path / "a")
    with pytest.raises(FileError, match="checkpoint"):
        run(data, tmp_path / "b" / "thesis.tex")


KILLED = """
    import sys, time, torch
    import tenfold as tn
    from tenfold import formats
    from tenfold.decomposition import streamed_svd

    torch.set_num_threads(1)
    def watch(label, done, total):
        print(label, done, total, flush=True)
        time.sleep(float(sys.argv[3]))
    blocks = tn.Blocks.of(torch.load(sys.argv[1]))
    found = streamed_svd(blocks, formats.tucker((88, 88, 88), 4), memory=10**7, checkpoint=sys.argv[2], watch=watch)
    torch.save([found.error, *found.network.cores], sys.argv[1])
"""


def test_killed_and_taken_up_again(tmp_path: Path) -> None:
    structure = STRUCTURES["tucker"]
    data = planted(structure)
    file, script = tmp_path / "data.pt", tmp_path / "run.py"
    torch.save(data, file)
    script.write_text(textwrap.dedent(KILLED))

    def start(wait: float) -> subprocess.Popen[str]:
        command = [sys.executable, script, file, tmp_path / "kept", str(wait)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    run = start(0.02)
    assert run.stdout is not None
    lines = (line.split() for line in run.stdout)
    assert any(line[0] == "projecting" and 3 <= int(line[1]) < int(line[2]) for line in lines)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    run.stdout.close()
    resumed, _ = start(0).communicate()
    assert "looking" not in resumed
    assert int(resumed.split()[1]) > 0
    error, *cores = torch.load(file)
    with threads_for(1):
        alone = streamed_svd(tn.Blocks.of(data), structure, memory=MEMORY)
    assert error == alone.error
    assert [core.numpy().tobytes() for core in cores] == bits(alone.network)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    structure = formats.tucker(CUBE, 10)
    blocks = tn.Blocks.of(planted(structure))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal_before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))  # room for sums, not for the projections
        with pytest.raises(FileError, match=r"cannot write .*core0\.bin") as raised:
            streamed_svd(blocks, structure, memory=MEMORY, checkpoint=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal_before)
    assert "\n" not in str(raised.value)
    passes = set()
    again = streamed_svd(
        blocks, structure, memory=MEMORY, checkpoint=tmp_path, watch=lambda label, *_: passes.add(label)
    )
    assert passes == {"projecting"}
    assert bits(again.network) == bits(streamed_svd(blocks, structure, memory=MEMORY).network)


# --- on a cluster -----------------------------------------------------------------------------------------------------


def _slowly(box: tuple[slice, ...]) -> np.ndarray:
    import time

    time.sleep(0.05)
    rows = [np.cos(0.1 * np.arange(part.start, part.stop)) for part in box]
    return np.einsum("i,j,k->ijk", *rows) + 0.01 * np.cos(np.add.outer(np.add.outer(*rows[:2]) * 40, rows[2] * 70))


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing() -> None:
    from distributed import Client, LocalCluster

    structure = formats.tucker((100, 100, 100), 3)
    alone = streamed_svd(tn.Blocks(_slowly, structure.shape, float), structure, memory=MEMORY)
    killed = []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())

        def watch(label: str, done: int, total: int) -> None:
            if not killed and label == "looking" and done > total // 3:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

        # By value, because workers cannot import this file.
        import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        blocks = tn.Blocks(_slowly, structure.shape, float)
        found = streamed_svd(blocks, structure, memory=MEMORY, client=client, watch=watch)
    assert killed
    assert found.error == pytest.approx(alone.error, rel=1e-12)
    assert relative_error(alone.network.dense(), found.network) < 1e-10


@pytest.mark.slow
def test_what_workers_cannot_do_is_one_line() -> None:
    from distributed import Client, LocalCluster

    data = planted(STRUCTURES["tucker"])
    data[3, 4, 5] = math.nan
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
        pytest.raises(DataError, match=r"NaN at \(3, 4, 5\)"),
    ):
        streamed_svd(tn.Blocks.of(data), STRUCTURES["tucker"], memory=MEMORY, client=client)
