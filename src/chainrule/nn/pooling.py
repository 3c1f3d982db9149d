"""Pooling layers; each is the function of that name in ``nn.functional``."""

from __future__ import annotations

from typing import Any

from . import functional as F
from ._declared import NEEDED, Declared

__all__: list[str] = []


class _Pool(Declared):
    kernel_size: Any
    stride: Any

    def _set(self, values: dict[str, Any]) -> None:
        if values.get("stride", 0) is None:
            values["stride"] = values["kernel_size"]
        super()._set(values)


class _MaxPool(_Pool):
    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class _AvgPool(_Pool):
    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool1d(_Pool):
    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        for key in ("kernel_size", "stride", "padding"):
            if isinstance(values[key], int):
                setattr(self, key, (values[key],))

    extra_repr = _AvgPool.extra_repr


class _MaxUnpool(_Pool):
    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        n = int(self._function[-2])
        for key in ("kernel_size", "stride", "padding"):
            value = getattr(self, key)
            setattr(self, key, (value,) * n if isinstance(value, int) else tuple(value))

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        function = getattr(F, self._function)
        return function(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class _LPPool(_Pool):
    def _set(self, values: dict[str, Any]) -> None:
        Declared._set(self, values)

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class _Fractional(Declared):
    def _set(self, values: dict[str, Any]) -> None:
        n = int(self._function[-2])
        given, ratio = values["output_size"], values["output_ratio"]
        name = type(self).__name__
        if given is None and ratio is None:
            raise ValueError(f"{name} requires specifying either an output size, or a pooling ratio")
        if given is not None and ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        self.register_buffer("_random_samples", values.pop("_random_samples"))
        for key in ("kernel_size", "output_size", "output_ratio"):
            value = values[key]
            values[key] = (value,) * n if isinstance(value, (int, float)) else value
        super()._set(values)
        if ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {ratio})")

    def extra_repr(self) -> str:
        return ""


class _AdaptiveAvg(Declared):
    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveMax(_AdaptiveAvg):
    pass


_AVERAGE: dict[str, Any] = {"kernel_size": NEEDED, "stride": None, "padding": 0, "ceil_mode": False,
                            "count_include_pad": True}  # fmt: skip
_MAXIMUM: dict[str, Any] = {"kernel_size": NEEDED, "stride": None, "padding": 0, "dilation": 1,
                            "return_indices": False, "ceil_mode": False}  # fmt: skip
_KINDS: tuple[tuple[str, str, Any, dict[str, Any], str], ...] = (
    ("MaxPool", "max_pool", _MaxPool, _MAXIMUM, "The largest entry of each window."),
    ("AvgPool", "avg_pool", _AvgPool, {**_AVERAGE, "divisor_override": None}, "The mean of each window."),
    ("MaxUnpool", "max_unpool", _MaxUnpool, {"kernel_size": NEEDED, "stride": None, "padding": 0},
     "Entries put back to where max pooling found them."),
    ("LPPool", "lp_pool", _LPPool, {"norm_type": NEEDED, "kernel_size": NEEDED, "stride": None, "ceil_mode": False},
     "(Σ xᵖ)^(1/p) over each window."),
    ("FractionalMaxPool", "fractional_max_pool", _Fractional,
     {"kernel_size": NEEDED, "output_size": None, "output_ratio": None, "return_indices": False,
      "_random_samples": None},
     "The largest entry of windows that begin at random places."),
    ("AdaptiveAvgPool", "adaptive_avg_pool", _AdaptiveAvg, {"output_size": NEEDED},
     "The mean over windows chosen to give an output of size ``output_size``."),
    ("AdaptiveMaxPool", "adaptive_max_pool", _AdaptiveMax, {"output_size": NEEDED, "return_indices": False},
     "The maximum over windows chosen to give an output of size ``output_size``."),
)  # fmt: skip


def _declare() -> None:
    """The layers for 1, 2 and 3 spatial axes of each kind."""
    for name, function, base, settings, doc in _KINDS:
        for n in (2, 3) if name == "FractionalMaxPool" else (1, 2, 3):
            if name == "AvgPool" and n == 1:
                base, settings = _AvgPool1d, _AVERAGE
            elif name == "AvgPool":
                base, settings = _AvgPool, {**_AVERAGE, "divisor_override": None}
            made = type(
                f"{name}{n}d", (base,), {"__doc__": doc, "__module__": __name__}, function=f"{function}{n}d", **settings
            )
            globals()[made.__name__] = made
            __all__.append(made.__name__)


_declare()
