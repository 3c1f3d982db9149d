"""LLVM without its optimisation passes and with its quickest code generator: a fifth of the time for the same bits.

What chainrule emits is vectorised, unrolled and scheduled already, and says which roundings it wants: LLVM may not
change a result. Tests of what the emitted code computes therefore compile quickly; ``test_random`` compiles a part of
its programs in both ways and compares the bits.
"""

import contextlib
import functools

import llvmlite.binding as llvm

from chainrule.compile import entry, native


@functools.cache
def _shared_machine():
    native.target_machine()  # LLVM is ready from here on
    # FastISel, which only this generator uses, takes a float's load into a blend that reads 16 bytes.
    llvm.set_option("", "-fast-isel=false")
    return native.new_machine(opt=0)


@functools.lru_cache(maxsize=128)
def load(text):
    """``native.load`` without optimisation; the last modules stay, since tests compile the same one again and again."""
    machine = _shared_machine()
    native._offer_scipy(text)
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = llvm.get_default_triple(), str(machine.target_data)
    module.verify()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), native.new_machine(opt=0))
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine.emit_object(module)))
    engine.finalize_object()
    return native.Library(engine, text)


_USERS = native.load


@contextlib.contextmanager
def _loading(way):
    kept = native.load
    native.load = way
    try:
        yield
    finally:
        native.load = kept


def quickly():
    """Steps that are linked inside are compiled without optimisation; what all steps share is as users have it."""
    entry.library()
    return _loading(load)


def as_users_have_it():
    """Steps that are linked inside are compiled with optimisation, also where ``quickly`` is around."""
    return _loading(_USERS)
