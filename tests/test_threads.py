"""The limit on threads is gone when the last piece of work is done, however they overlap."""

from __future__ import annotations

import threading

import torch
from threadpoolctl import threadpool_info

from tenfold._threads import threads_for


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
