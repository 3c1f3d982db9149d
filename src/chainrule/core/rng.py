"""Random numbers: a ``Generator`` with PyTorch's methods over NumPy's PCG64, which is imported at first use."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .device import CPU

__all__ = ["Generator", "default_generator", "numpy_generator"]


class Generator:
    """A stream of random numbers with its own state. Same distributions as PyTorch's, a stream of its own."""

    __slots__ = ("_rng", "_seed", "__weakref__")

    def __init__(self, device: Any = "cpu") -> None:
        from .device import check_device

        check_device(device)
        self._rng: Any = None
        self._seed = 67280421310721  # PyTorch's own default seed

    @property
    def device(self) -> Any:
        return CPU

    @property
    def numpy(self) -> Any:
        """The NumPy generator behind it."""
        if self._rng is None:
            self._rng = np.random.Generator(np.random.PCG64(self._seed))
        return self._rng

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream anew from ``seed``."""
        seed = int(seed)
        if not -(2**63) <= seed < 2**64:
            raise RuntimeError("Overflow when unpacking long long")
        self._seed = seed % 2**64
        self._rng = None
        return self

    def initial_seed(self) -> int:
        """The seed that the stream started from."""
        return self._seed

    def seed(self) -> int:
        """Start the stream from a seed that the operating system chooses; returns it."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        return self._seed

    def get_state(self) -> Any:
        """The state as a tensor of bytes, for ``set_state``."""
        from .variable import wrap

        inner = self.numpy.bit_generator.state
        numbers = (inner["state"]["state"], inner["state"]["inc"], inner["has_uint32"], inner["uinteger"], self._seed)
        data = b"".join(int(n).to_bytes(16, "little") for n in numbers)
        return wrap(np.frombuffer(data, np.uint8).copy())

    def set_state(self, new_state: Any) -> None:
        """Continue from a state that ``get_state`` gave."""
        data = new_state._array.tobytes()
        if new_state._array.dtype != np.uint8 or len(data) != 80:
            raise TypeError(
                f"expected a state from get_state (80 bytes), got {new_state._array.size} entries of "
                f"{new_state._array.dtype.name}"
            )
        a, inc, has, value, seed = (int.from_bytes(data[i : i + 16], "little") for i in range(0, 80, 16))
        self._seed, self._rng = seed, None
        self.numpy.bit_generator.state = {
            "bit_generator": "PCG64", "state": {"state": a, "inc": inc}, "has_uint32": has, "uinteger": value,
        }  # fmt: skip

    def clone_state(self) -> Generator:
        """A generator of its own that continues from the same state."""
        other = Generator()
        other.set_state(self.get_state())
        return other

    def __getstate__(self) -> Any:
        return self.get_state()

    def __setstate__(self, saved: Any) -> None:
        self._rng = None
        self.set_state(saved)

    def __repr__(self) -> str:
        return f"<torch._C.Generator object at {id(self):#x}>"


default_generator = Generator()


def numpy_generator(generator: Any = None) -> Any:
    """The NumPy generator to draw from: the given one's, or the default one's."""
    return (default_generator if generator is None else generator).numpy
