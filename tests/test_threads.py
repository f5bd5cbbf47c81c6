"""The limit on threads is gone when the last piece of work is done, however they overlap."""

from __future__ import annotations

import threading

import torch
from threadpoolctl import threadpool_info

from tenfold._threads import blas_threads, threads_for


def seen() -> tuple[int, list[int]]:
    """The threads that a new thread of Python gets, of torch and of the BLAS libraries."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0], [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_overlapping_blocks_put_back_what_was_there() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = seen()
        first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()
        inside: list[int] = []

        def first() -> None:
            with threads_for(10):
                first_is_in.set()
                assert second_is_in.wait(10)
            first_is_out.set()

        def second() -> None:
            assert first_is_in.wait(10)
            with threads_for(10):
                second_is_in.set()
                assert first_is_out.wait(10)
                inside.append(torch.get_num_threads())

        threads = [threading.Thread(target=work) for work in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert inside == [1]
        assert torch.get_num_threads() == 2
        assert seen() == expected
    finally:
        torch.set_num_threads(before)


def test_blas_gets_what_a_block_asks_for_and_what_it_had() -> None:
    def pools() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    expected = pools()
    with blas_threads(2):
        assert pools() == {2}
        with blas_threads(1):
            assert pools() == {1}
            with blas_threads(2):
                assert pools() == {2}
            assert pools() == {1}
        assert pools() == {2}
    assert pools() == expected


def test_blas_is_as_before_when_blocks_end_in_another_order() -> None:
    expected = seen()
    outer, inner = blas_threads(1), blas_threads(2)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    assert seen() == expected
