"""Images: .png .jpg .jpeg .bmp .gif .webp and .tif .tiff.

Gray images are matrices (y, x); others have a third mode ``channel`` whose labels name the channels. Palettes are
expanded. The first frame of an animation is read. TIFF files keep all their modes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tenfold.errors import FileError, missing_extra
from tenfold.io._checks import cast, count_missing, fits_memory, native, numeric, parsing
from tenfold.io._registry import Content, Format, register, starts_with
from tenfold.io.dataset import Dataset

# Only these decoders: others that the imaging library has start programs or are seldom maintained.
_DECODERS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_CHANNELS = {
    "LA": ("gray", "alpha"),
    "RGB": ("red", "green", "blue"),
    "RGBA": ("red", "green", "blue", "alpha"),
    "CMYK": ("cyan", "magenta", "yellow", "black"),
}
_BY_COUNT = {2: _CHANNELS["LA"], 3: _CHANNELS["RGB"], 4: _CHANNELS["RGBA"]}
# Names for the letters by which TIFF readers call the axes of a series.
_AXES = {"X": "x", "Y": "y", "Z": "z", "T": "time", "C": "channel", "S": "channel", "I": "page", "Q": "page"}


def _dataset(values: np.ndarray, channels: tuple[str, ...], name: str) -> Dataset:
    dims = ("y", "x", "channel")[: values.ndim]
    coordinates = {"channel": np.array(channels)} if values.ndim == 3 else {}
    return Dataset(values, dims, coordinates, str(values.dtype), name, count_missing(values))


def _read_picture(path: Path, name: str) -> Dataset:
    with parsing(name, "an image"), warnings.catch_warnings():
        # Large is fine; absurdly large raises an error of its own, which names the limit.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            picture = Image.open(path, formats=_DECODERS)
        except Image.DecompressionBombError as error:
            raise FileError(
                f"'{name}' says to have more pixels than an image may: crop it, or save the array as .npy"
            ) from error
        with picture:
            fits_memory((picture.height, picture.width, 4), np.dtype(np.uint8), name)
            if picture.format == "PNG" and _is_deep_colour(path):
                return _read_deep_png(path, name)
            return _from_pillow(picture, name)


def _from_pillow(picture: Image.Image, name: str) -> Dataset:
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    mode = upright.mode
    if mode in ("P", "PA"):
        upright = upright.convert("RGBA" if mode == "PA" or "transparency" in upright.info else "RGB")
    elif mode == "1":
        upright = upright.convert("L")
    elif mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "I", "F") and not mode.startswith("I;16"):
        upright = upright.convert("RGB")
    return _dataset(native(np.array(upright)), _CHANNELS.get(upright.mode, ()), name)


def _is_deep_colour(path: Path) -> bool:
    """Whether a PNG has several channels of 16 bits, which the imaging library would cut to 8."""
    with path.open("rb") as handle:
        head = handle.read(26)  # signature, length and name of the header chunk, width, height, depth, colour type
    return head[24] == 16 and head[25] in (2, 4, 6)


def _read_deep_png(path: Path, name: str) -> Dataset:
    png = _pypng(name)
    width, height, rows, info = png.Reader(filename=str(path)).read()
    planes = int(info["planes"])
    fits_memory((height, width, planes), np.dtype(np.uint16), name)
    values = np.empty((height, width * planes), np.uint16)
    count = 0
    for count, row in enumerate(rows, start=1):
        values[count - 1] = row
    if count != height:
        raise FileError(f"'{name}' is truncated: it has {count} of {height} rows")
    return _dataset(values.reshape(height, width, planes), _BY_COUNT[planes], name)


def _pypng(name: str) -> Any:
    try:
        import png
    except ImportError as error:
        raise missing_extra("pypng", "images", f"'{name}' with 16 bits per colour") from error
    return png


def _tifffile(name: str) -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise missing_extra("tifffile", "images", f"'{name}'") from error
    # It also logs what it raises; without a handler that would go to standard error beside our one line.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    return tifffile


@contextmanager
def _errors_of(tifffile: Any) -> Iterator[list[str]]:
    """What tifffile logs as an error within the block: it does not raise for pages that are missing at the end."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener, log = Listener(logging.ERROR), logging.getLogger(tifffile.__name__)
    log.addHandler(listener)
    try:
        yield said
    finally:
        log.removeHandler(listener)


def _read_tiff(path: Path, name: str) -> Dataset:
    tifffile = _tifffile(name)
    with parsing(name, "a TIFF image"), _errors_of(tifffile) as said, tifffile.TiffFile(path) as image:
        if not image.series:
            raise FileError(f"'{name}' is truncated or damaged: it has no image in it")
        series = image.series[0]
        numeric(series.dtype, series.shape, name)
        fits_memory(series.shape, series.dtype, name)
        stored = sum(sum(page.databytecounts) for page in series.pages if page is not None)
        if stored > path.stat().st_size:
            raise FileError(f"'{name}' is truncated: its pixels alone take {stored} bytes")
        if any("page offset" in line for line in said):
            raise FileError(f"'{name}' is truncated: its last pages are missing")
        try:
            values = np.asarray(series.asarray())
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise missing_extra("imagecodecs", "images", f"'{name}' with its compression") from error
            raise
        dims = _tiff_dims(series.axes)
        coordinates = {}
        if series.axes.endswith("S") and values.shape[-1] in (3, 4) and "channel" in dims:
            coordinates["channel"] = np.array(_BY_COUNT[values.shape[-1]])
        return Dataset(native(values), dims, coordinates, str(values.dtype), name, count_missing(values))


def _tiff_dims(axes: str) -> tuple[str, ...]:
    names: list[str] = []
    for letter in axes:
        wanted = _AXES.get(letter, letter.lower())
        number = sum(name.rstrip("0123456789") == wanted for name in names)
        names.append(wanted if number == 0 else f"{wanted}{number + 1}")
    return tuple(names)


def _pixels(content: Content, name: str, kind: str, depths: tuple[str, ...], counts: tuple[int, ...]) -> np.ndarray:
    """The content as (y, x) or (y, x, channel) integers that the format holds."""
    values = content.values
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in counts):
        raise FileError(
            f"cannot write '{name}': {kind} holds (y, x) or (y, x, channel) with {_either(counts)} channels, "
            f"the array has shape {content.values.shape}: .npy or .tiff would do"
        )
    dtype = content.dtype or (str(values.dtype) if str(values.dtype) in depths else "uint8")
    if dtype not in depths:
        raise FileError(f"cannot write '{name}': {kind} holds {_either(depths)}, not {dtype}: .tiff or .npy would do")
    return cast(values, dtype, name)


def _either(choices: tuple[object, ...]) -> str:
    return " or ".join(map(str, choices))


def _pillow_writer(kind: str, decoder: str, counts: tuple[int, ...], **options: Any) -> Callable[..., None]:
    def write(content: Content, path: Path, name: str) -> None:
        pixels = _pixels(content, name, kind, ("uint8",), counts)
        with path.open("wb") as handle:
            Image.fromarray(pixels).save(handle, decoder, **options)

    return write


def _write_png(content: Content, path: Path, name: str) -> None:
    pixels = _pixels(content, name, "a PNG image", ("uint8", "uint16"), (2, 3, 4))
    with path.open("wb") as handle:
        if pixels.dtype == np.uint16 and pixels.ndim == 3:
            height, width, planes = pixels.shape
            writer = _pypng(name).Writer(width, height, greyscale=planes == 2, alpha=planes in (2, 4), bitdepth=16)
            writer.write(handle, pixels.reshape(height, width * planes))
        else:
            Image.fromarray(pixels).save(handle, "PNG")


def _write_tiff(content: Content, path: Path, name: str) -> None:
    values = content.values if content.dtype is None else cast(content.values, content.dtype, name)
    if values.ndim < 2:
        raise FileError(f"cannot write '{name}': a TIFF image has two modes or more, not shape {values.shape}")
    colour = values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype in (np.uint8, np.uint16)
    _tifffile(name).imwrite(path, values, photometric="rgb" if colour else "minisblack")


def _is_bmp(path: Path) -> bool:
    with path.open("rb") as handle:
        head = handle.read(10)
    return head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"  # two letters alone begin many a text


register(
    Format("a PNG image", (".png",), _read_picture, (), _write_png, starts_with(b"\x89PNG\r\n\x1a\n"), picture=True)
)
register(
    Format(
        "a JPEG image",
        (".jpg", ".jpeg"),
        _read_picture,
        (),
        _pillow_writer("a JPEG image", "JPEG", (3,), quality=95, subsampling=0),
        starts_with(b"\xff\xd8\xff"),
        picture=True,
    )
)
register(
    Format(
        "a BMP image", (".bmp",), _read_picture, (), _pillow_writer("a BMP image", "BMP", (3,)), _is_bmp, picture=True
    ),
)
register(Format("a GIF image", (".gif",), _read_picture, (), None, starts_with(b"GIF87a", b"GIF89a"), picture=True))
register(
    Format(
        "a WebP image",
        (".webp",),
        _read_picture,
        (),
        _pillow_writer("a WebP image", "WEBP", (3, 4), lossless=True),
        starts_with(b"RIFF????WEBP"),
        picture=True,
    )
)
register(
    Format(
        "a TIFF image",
        (".tif", ".tiff"),
        _read_tiff,
        (),
        _write_tiff,
        starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        picture=True,
    )
)
