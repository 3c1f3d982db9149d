"""``save`` and ``load``."""

from __future__ import annotations

import os
from typing import Any

from .problems import FileFormatError, RefusedError
from .torchfile import read_torch
from .torchwrite import write_torch
from .tree import pack, unpack

__all__ = ["save", "load"]

_PICKLED = b"chainrule pickle 1\n"


def save(
    obj: Any, f: Any, pickle_module: Any = None, pickle_protocol: int = 2, _use_new_zipfile_serialization: bool = True
) -> None:
    """Write a state_dict, or any nesting of tensors, containers, numbers and strings.

    A path that ends in ``.safetensors`` gets a safetensors file; anything else PyTorch's own ``.pt`` format, which
    ``torch.load(path, weights_only=True)`` opens. A whole module (or anything else that has no safe form) is pickled,
    and then ``load`` wants ``weights_only=False``.

    Args:
        obj: what to save.
        f: a path, or a file opened for binary writing. A path is written aside, synced and renamed: whatever happens,
            it holds either the old content or the new one.

    >>> import chainrule as torch, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.pt")
    >>> torch.save({"w": torch.tensor([1.0, 2.0])}, path)
    >>> torch.load(path)
    {'w': tensor([1., 2.])}
    """
    name = "" if hasattr(f, "write") else os.fspath(f)
    try:
        data = pack(obj) if str(name).endswith(".safetensors") else write_torch(obj)
    except TypeError as unsafe:
        data = _pickle(obj, unsafe)
    if hasattr(f, "write"):
        f.write(data)
        return
    write_whole(name, data)


def _pickle(obj: Any, unsafe: TypeError) -> bytes:
    import pickle

    try:
        return _PICKLED + pickle.dumps(obj, protocol=4)
    except Exception as error:
        raise TypeError(f"cannot save: {unsafe}, and it cannot be pickled ({error})") from error


def write_whole(path: str, data: bytes) -> None:
    """Replace the file at ``path`` by one with this content, all at once."""
    directory, name = os.path.split(os.path.abspath(path))
    aside = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        if os.path.exists(aside):
            os.unlink(aside)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself reaches the disk with the directory
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Read what ``save`` wrote, a safetensors file from elsewhere, or a PyTorch ``.pt`` file of weights.

    Args:
        f: a path, or a file opened for binary reading.
        weights_only: True (default) reads tensors, containers, numbers and strings, whatever the file brings.
            False also unpickles whole objects that chainrule saved, which can run code: only for files you trust.

    Raises:
        FileFormatError: one sentence that says what is wrong with the file.
        RefusedError: naming what the file asks for beyond weights.
    """
    if hasattr(f, "read"):
        data, where = f.read(), str(getattr(f, "name", "the file"))
    else:
        where = os.fspath(f)
        with open(f, "rb") as file:
            data = file.read()
    if data.startswith(_PICKLED):
        if weights_only is None or weights_only:
            raise RefusedError(
                f"{where}: refused to load a pickled object\n"
                "  It was saved whole (a module, say), and loading that can run code.\n"
                "  If you trust its source: load(path, weights_only=False). Safe: save and load the state_dict."
            )
        import pickle

        try:
            return pickle.loads(data[len(_PICKLED) :])
        except Exception as error:
            raise FileFormatError(f"{where} cannot be unpickled: {error!r}") from error
    if data.startswith(b"PK\x03\x04"):
        return read_torch(data, where)
    if len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < max(len(data), 1 << 27):
        return unpack(data, where)
    if not data:
        raise FileFormatError(f"{where} is empty")
    if data[:1] == b"\x80":
        raise RefusedError(
            f"{where}: refused to load a bare pickle (PyTorch before 1.6 wrote such files)\n"
            "  Load it in PyTorch and save its state_dict anew: torch.save(state_dict, path)."
        )
    raise FileFormatError(f"{where} is neither a safetensors file nor a PyTorch .pt file (it begins with {data[:8]!r})")
