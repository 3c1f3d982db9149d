"""``SummaryWriter``: event files that TensorBoard reads, written without TensorBoard.

An event file is a sequence of records (length, checksum, data, checksum) whose data are protocol buffers. The few
messages needed are encoded here by hand; field numbers are those of TensorFlow's event.proto and summary.proto.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import time
import zlib
from typing import Any, BinaryIO

import numpy as np

from ..core.variable import Variable

__all__ = ["SummaryWriter"]


# --- records -----------------------------------------------------------------------------------------------------


@functools.cache
def _table() -> tuple[int, ...]:
    """The byte table of CRC-32C (Castagnoli), reflected polynomial 0x82F63B78."""
    out = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
        out.append(i)
    return tuple(out)


def crc32c(data: bytes) -> int:
    """CRC-32C.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """One record of an event file."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


# --- protocol buffers --------------------------------------------------------------------------------------------


def _varint(n: int) -> bytes:
    n &= (1 << 64) - 1  # negative numbers as two's complement
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _bytes(field: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _int(field: int, n: int) -> bytes:
    return _varint(field << 3) + _varint(n)


def _double(field: int, x: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", x)


def _doubles(field: int, values: Any) -> bytes:
    return _bytes(field, np.asarray(values, "<f8").tobytes())


def _array(x: Any) -> Any:
    return x._array if isinstance(x, Variable) else np.asarray(x)


def _scalar(tag: str, value: Any) -> bytes:
    return _bytes(1, tag) + _varint(2 << 3 | 5) + struct.pack("<f", float(_array(value).reshape(())))


def _histogram(tag: str, values: Any, bins: Any) -> bytes:
    flat = _array(values).astype(np.float64).ravel()
    if flat.size == 0:
        raise ValueError("The input has no element.")
    if not np.isfinite(flat).all():
        raise ValueError(f"add_histogram({tag!r}): the values contain NaN or infinity")
    edges: Any = bins
    if isinstance(bins, str) and bins == "tensorflow":
        positive = 1e-12 * 1.1 ** np.arange(775)  # up to 1e20
        edges = np.concatenate([-positive[::-1], [0.0], positive])
    counts, limits = np.histogram(flat, edges)
    # The first and last non-empty bins with one empty bin on each side: that is what TensorBoard draws well.
    full = np.flatnonzero(counts)
    start, stop = (int(full[0]), int(full[-1]) + 1) if len(full) else (0, 1)
    counts, limits = counts[start:stop], limits[start : stop + 1]
    message = _double(1, float(flat.min())) + _double(2, float(flat.max())) + _double(3, float(flat.size))
    message += _double(4, float(flat.sum())) + _double(5, float(flat @ flat))
    message += _doubles(6, limits) + _doubles(7, [0.0, *counts])
    return _bytes(1, tag) + _bytes(5, message)


def png(pixels: Any) -> bytes:
    """Pixels (height, width, channels 1, 3 or 4; uint8) as a PNG file."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # filter type 0 before each row
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _image(tag: str, image: Any, dataformats: str) -> bytes:
    a = _array(image)
    if len(dataformats) != a.ndim:
        raise ValueError(f"size of input tensor and input format are different. tensor shape: {a.shape}, "
                         f"input_format: {dataformats}")  # fmt: skip
    a = np.clip(a * 255.0, 0, 255).astype(np.uint8) if a.dtype != np.uint8 else a
    order = {letter: i for i, letter in enumerate(dataformats.upper())}
    if "N" in order:
        parts = np.moveaxis(a, order["N"], 0)
        order = {letter: i for i, letter in enumerate(dataformats.upper().replace("N", ""))}
        a = np.concatenate(list(parts), axis=order["W"])
    a = a.transpose([order[k] for k in "HWC" if k in order])
    a = a[..., None] if a.ndim == 2 else a
    message = _int(1, a.shape[0]) + _int(2, a.shape[1]) + _int(3, a.shape[2]) + _bytes(4, png(a))
    return _bytes(1, tag) + _bytes(4, message)


def _text(tag: str, text: str) -> bytes:
    metadata = _bytes(1, _bytes(1, "text"))
    tensor = _int(1, 7) + _bytes(2, _bytes(2, _int(1, 1))) + _bytes(8, text)  # a string tensor of shape [1]
    return _bytes(1, tag + "/text_summary") + _bytes(8, tensor) + _bytes(9, metadata)


# --- the writer --------------------------------------------------------------------------------------------------


class SummaryWriter:
    """Writes scalars, histograms, images and texts where ``tensorboard --logdir runs`` shows them.

    >>> import tempfile, os
    >>> folder = tempfile.mkdtemp()
    >>> with SummaryWriter(folder) as writer:
    ...     writer.add_scalar("loss", 0.5, 1)
    >>> os.listdir(folder)[0].startswith("events.out.tfevents.")
    True
    """

    def __init__(
        self,
        log_dir: Any = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        if not log_dir:
            stamp = time.strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{stamp}_{socket.gethostname()}{comment}")
        self.log_dir = str(log_dir)
        self.max_queue, self.flush_secs, self.filename_suffix = max_queue, flush_secs, filename_suffix
        self._children: dict[str, SummaryWriter] = {}
        self._waiting, self._flushed = 0, time.monotonic()
        os.makedirs(self.log_dir, exist_ok=True)
        stamp, host = f"{int(time.time()):010d}", socket.gethostname()
        name = f"events.out.tfevents.{stamp}.{host}.{os.getpid()}.{id(self)}{filename_suffix}"
        self._file: BinaryIO | None = open(os.path.join(self.log_dir, name), "ab")  # noqa: SIM115 - closed by close()
        self._write(_double(1, time.time()) + _bytes(3, "brain.Event:2"))
        if purge_step is not None:
            session = _int(1, 1)  # a start: what was logged before from this step on is dropped
            self._write(_double(1, time.time()) + _int(2, purge_step) + _bytes(7, session))
        self.flush()

    def get_logdir(self) -> str:
        """The folder that is written to."""
        return self.log_dir

    def _write(self, event: bytes) -> None:
        if self._file is None:
            raise ValueError("the SummaryWriter is closed")
        self._file.write(record(event))
        self._waiting += 1
        if self._waiting > self.max_queue or time.monotonic() - self._flushed > self.flush_secs:
            self.flush()

    def _add(self, value: bytes, step: int | None, walltime: float | None) -> None:
        when = time.time() if walltime is None else walltime
        self._write(_double(1, when) + (b"" if step is None else _int(2, int(step))) + _bytes(5, _bytes(1, value)))

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """One number of a curve."""
        self._add(_scalar(tag, scalar_value), global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: dict[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Several curves in one picture: each has a run of its own below the log folder."""
        for tag, value in tag_scalar_dict.items():
            folder = os.path.join(self.log_dir, f"{main_tag.replace('/', '_')}_{tag}")
            if folder not in self._children:
                self._children[folder] = SummaryWriter(folder, max_queue=self.max_queue, flush_secs=self.flush_secs)
            self._children[folder].add_scalar(main_tag, value, global_step, walltime)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """The distribution of the entries of ``values``."""
        self._add(_histogram(tag, values, bins), global_step, walltime)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """A picture: floats in [0, 1] or bytes."""
        self._add(_image(tag, img_tensor, dataformats), global_step, walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Pictures side by side."""
        self._add(_image(tag, img_tensor, dataformats), global_step, walltime)

    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """A text, shown as Markdown."""
        self._add(_text(tag, text_string), global_step, walltime)

    def add_hparams(
        self, hparam_dict: dict[str, Any], metric_dict: dict[str, Any], run_name: str | None = None, **_: Any
    ) -> None:
        """Settings as a table (a text), and the metrics as scalars."""
        rows = "\n".join(f"|{k}|{v}|" for k, v in hparam_dict.items())
        self.add_text("hparams", f"|setting|value|\n|-|-|\n{rows}", 0)
        for tag, value in metric_dict.items():
            self.add_scalar(tag, value)

    def add_graph(self, model: Any, input_to_model: Any = None, verbose: bool = False, **_: Any) -> None:
        """The model's repr as a text: chainrule shows graphs itself (``chainrule.lab``), not through TensorBoard."""
        self.add_text("graph", "    " + repr(model).replace("\n", "\n    "), 0)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if self._file is not None:
            self._file.flush()
        self._waiting, self._flushed = 0, time.monotonic()
        for child in self._children.values():
            child.flush()

    def close(self) -> None:
        """Write everything and close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None
        for child in self._children.values():
            child.close()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
