"""LLVM as a service: text in, callable addresses out, with object code kept on disk for the next process.

Object files are keyed by the text of the module, the processor and llvmlite's version, and carry a checksum; a
damaged or foreign file is ignored and written again. The folder is bounded: files that were not used for longest go.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

__all__ = ["Library", "load", "cache_dir", "vector_bytes"]

_MAGIC = b"chainrule-object-1\n"
_lock = threading.RLock()
_machine: Any = None
_libraries: weakref.WeakValueDictionary[str, Library] = weakref.WeakValueDictionary()
stats = {"compiled": 0, "from_disk": 0, "from_memory": 0}


def cache_dir() -> Path | None:
    """Where object code is kept: ``CHAINRULE_CACHE`` (empty: nowhere), else the user's cache folder."""
    chosen = os.environ.get("CHAINRULE_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "chainrule"


@functools.cache
def _features() -> Any:
    """What this processor has, by LLVM's names: asked once, since LLVM goes through all there are."""
    return llvm.get_host_cpu_features()


def new_machine(opt: int = 2) -> Any:
    """A code generator for this processor."""
    flat = _features().flatten() + (",-prefer-256-bit" if _features().get("avx512f") else "")
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=flat, opt=opt, reloc="pic", codemodel="jitdefault", jit=True
    )


def target_machine() -> Any:
    """The code generator for this processor, made once."""
    global _machine
    with _lock:
        if _machine is None:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            _machine = new_machine()
        return _machine


def vector_bytes() -> int:
    """Width of the vector registers in bytes."""
    features = _features()
    if features.get("avx512f") and features.get("avx512vl") and features.get("avx512dq") and features.get("avx512bw"):
        return 64
    return 32 if features.get("avx2") else 16


def vector_registers() -> int:
    """How many vector registers the processor has."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return 32
    return 32 if vector_bytes() == 64 else 16


class Library:
    """Loaded object code; ``address(name)`` of its functions."""

    def __init__(self, engine: Any, module_text: str) -> None:
        self._engine = engine
        self.ir = module_text

    def address(self, name: str) -> int:
        found = self._engine.get_function_address(name)
        if not found:
            raise KeyError(name)
        return found

    def assembly(self) -> str:
        """The machine code as assembly text (compiled again for the purpose)."""
        return target_machine().emit_assembly(_optimised(self.ir))


def _optimised(text: str) -> Any:
    machine = target_machine()
    module = llvm.parse_assembly(text)
    module.triple = llvm.get_default_triple()
    module.data_layout = str(machine.target_data)
    module.verify()
    # The emitter has already unrolled, vectorised and hoisted; what is left is cleaning up.
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def _key(text: str) -> str:
    cpu = f"{platform.machine()} {llvm.get_host_cpu_name()} {_features().flatten()}"
    stamp = f"{llvmlite.__version__}|{llvm.llvm_version_info}|{sys.byteorder}|{cpu}|"
    return hashlib.sha256((stamp + text).encode()).hexdigest()


def _read(path: Path, key: str) -> bytes | None:
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    head = _MAGIC + key.encode() + b"\n"
    if not raw.startswith(head):
        return None
    digest, body = raw[len(head) : len(head) + 32], raw[len(head) + 32 :]
    return body if body and hashlib.sha256(body).digest() == digest else None


def _write(path: Path, key: str, body: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + key.encode() + b"\n" + hashlib.sha256(body).digest() + body)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else


def _offer_scipy(text: str) -> None:
    """Make SciPy's compiled special functions known to the linker by the names that the module calls them."""
    wanted = set(re.findall(r"@scipy\.(\w+)", text))
    if not wanted:
        return
    from scipy.special import cython_special

    capsules: dict[str, Any] = vars(cython_special)["__pyx_capi__"]
    api = ctypes.pythonapi
    name_of, pointer_of = api.PyCapsule_GetName, api.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    for name in wanted:
        llvm.add_symbol(f"scipy.{name}", pointer_of(capsules[name], name_of(capsules[name])))


def cache_limit() -> int:
    """Bytes that the folder may hold: ``CHAINRULE_CACHE_MB`` megabytes, 256 by default."""
    try:
        return int(float(os.environ.get("CHAINRULE_CACHE_MB", "256")) * 1e6)
    except ValueError:
        return 256_000_000


def trim(folder: Path) -> None:
    """Remove the files that were not used for longest, until the folder is at nine tenths of its limit."""
    try:
        files = [(f.stat().st_mtime, f.stat().st_size, f) for f in folder.glob("*.o")]
    except OSError:
        return  # another process is tidying up as well
    total, limit = sum(size for _, size, _ in files), cache_limit()
    if total <= limit:
        return
    for _, size, file in sorted(files, key=lambda entry: entry[0]):
        with contextlib.suppress(OSError):
            file.unlink()
        total -= size
        if total <= 0.9 * limit:
            return


def load(text: str) -> Library:
    """Compile a module's text, or find it in memory or on disk."""
    key = _key(text)
    with _lock:
        found = _libraries.get(key)
        if found is not None:
            stats["from_memory"] += 1
            return found
        machine = target_machine()
        _offer_scipy(text)
        folder = cache_dir()
        path = folder / f"{key}.o" if folder is not None else None
        body = _read(path, key) if path is not None else None
        if body is None:
            body = machine.emit_object(_optimised(text))
            stats["compiled"] += 1
            if path is not None:
                _write(path, key, body)
                trim(path.parent)
        else:
            stats["from_disk"] += 1
            with contextlib.suppress(OSError):
                os.utime(path)  # type: ignore[arg-type]  # used now: the last to be removed
        # An engine owns its machine and frees it, so each needs one of its own.
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), new_machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(body))
        engine.finalize_object()
        library = _libraries[key] = Library(engine, text)
        return library
