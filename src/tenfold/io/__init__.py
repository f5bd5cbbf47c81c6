"""Files in, files out: arrays, images, scientific grids and tables, by the suffix of the file.

>>> from tenfold.io import read, write
>>> photo = read("sample:astronaut")
>>> photo.shape, photo.dims
((512, 512, 3), ('y', 'x', 'channel'))

A format lives in the file of its family (``arrays``, ``images``, ``grids``, ``tables``) and registers itself
there.
"""

from __future__ import annotations

from tenfold.io import arrays, grids, images, tables
from tenfold.io._checks import gigabytes, memory_of_machine
from tenfold.io._read import read
from tenfold.io._registry import check_format, is_picture, suffixes
from tenfold.io._write import write
from tenfold.io.dataset import Dataset
from tenfold.io.lazy import LazyArray
from tenfold.io.samples import Sample, samples

__all__ = [
    "Dataset",
    "LazyArray",
    "Sample",
    "arrays",
    "check_format",
    "gigabytes",
    "grids",
    "images",
    "is_picture",
    "memory_of_machine",
    "read",
    "samples",
    "suffixes",
    "tables",
    "write",
]
