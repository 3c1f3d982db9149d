"""``Tensor``: an array, its gradient, and the node that made it. Its methods are the functions of ``functions/``."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import functions
from .autograd import api, engine
from .core import dtypes, inplace, left_out, variable
from .core.hooks import RemovableHandle, add_hook
from .core.live import gradient_read, gradient_set, memory_read
from .core.node import Node, named
from .core.size import Size
from .core.state import state
from .core.variable import Variable, wrap
from .errors import DtypeError, GradientError, message
from .functions._args import axis
from .functions.conversion import legacy, rebuild
from .functions.creation import from_numpy

__all__ = ["Size", "Tensor"]


class Tensor(Variable):
    """A multi-dimensional array that records how it was computed, with PyTorch's API.

    >>> import chainrule as torch
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> z = 3 * x**2
    >>> z.backward()
    >>> x.grad
    tensor(12.)
    """

    __slots__ = ()
    __array_priority__ = 1000  # ndarray * tensor is a tensor
    __hash__ = object.__hash__  # identity, as in PyTorch, although == compares entries

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """``Tensor(2, 3)`` is an uninitialised tensor of that size, ``Tensor([1, 2])`` one with that data."""
        made = legacy(dtypes.default.numpy, args)
        return made if cls is Tensor else rebuild(cls, made._array, False, {})

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._array.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one axis."""
        return Size(self._array.shape) if dim is None else self._array.shape[axis(dim, self._array.ndim)]

    @property
    def ndim(self) -> int:
        return self._array.ndim

    def dim(self) -> int:
        return self._array.ndim

    def numel(self) -> int:
        return self._array.size

    @property
    def dtype(self) -> dtypes.dtype:
        return dtypes.from_numpy(self._array.dtype)

    # --- its place in the graph -----------------------------------------------------------------------------------

    @property
    def grad_fn(self) -> Node | None:
        """The node that made this tensor; None for leaves."""
        if self._base is not None:
            inplace.refresh(self)
        node = self._node[0] if type(self._node) is tuple else self._node
        return None if node is None else named(node)

    @property
    def output_nr(self) -> int:
        return self._node[1] if type(self._node) is tuple else 0

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    @property
    def requires_grad(self) -> bool:
        if self._base is not None:
            inplace.refresh(self)
        return self._requires

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self._array.dtype not in dtypes.FLOATS:
            raise DtypeError(
                message(
                    "only Tensors of floating point dtype can require gradients",
                    f"this one is {self.dtype.name}",
                    fix="Convert it first: x.float().",
                )
            )
        if not value and self._node is not None:
            raise GradientError(
                message(
                    "you can only change requires_grad flags of leaf variables. If you want to use a computed "
                    "variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
                )
            )
        self._requires = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` in place and return self."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Any:
        """The accumulated gradient, or None."""
        if state.recorder is not None:
            gradient_read(self)
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}"
                )
            if value._array.shape != self._array.shape:
                raise GradientError(
                    message(
                        f"assigned grad has data of a different size: grad is {tuple(value.shape)}, "
                        f"the tensor {tuple(self.shape)}"
                    )
                )
            if value._array.dtype is not self._array.dtype:
                raise GradientError(
                    message(
                        f"assigned grad has data of a different type: {value.dtype.name} for a {self.dtype.name} tensor"
                    )
                )
        if state.recorder is not None:
            gradient_set(self)
        self._grad = value

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is not a leaf in ``.grad`` after backward."""
        if not self.requires_grad:
            raise GradientError(message("can't retain_grad on Tensor that has requires_grad=False"))
        if self._node is None:
            return
        node, i = self._node if type(self._node) is tuple else (self._node, 0)
        engine.node_hooks(node).retained[i] = weakref.ref(self)
        self._retains = True

    @property
    def retains_grad(self) -> bool:
        return self._retains

    def register_hook(self, hook: Callable[[Any], Any]) -> RemovableHandle:
        """Call ``hook(grad)`` when the gradient of this tensor is known; a returned tensor replaces it."""
        if not self.requires_grad:
            raise GradientError(message("cannot register a hook on a tensor that doesn't require gradient"))
        if self._node is None:
            if self._hooks is None:
                self._hooks = {}
            return add_hook(self._hooks, hook)
        node, i = self._node if type(self._node) is tuple else (self._node, 0)
        return add_hook(engine.node_hooks(node).outputs.setdefault(i, {}), hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Any], Any]) -> RemovableHandle:
        """Call ``hook(tensor)`` after its gradient has been accumulated into ``.grad`` (leaves only)."""
        if not self._requires or self._node is not None:
            raise GradientError(message("post accumulate grad hooks cannot be registered on non-leaf tensors"))
        if self._after is None:
            self._after = {}
        return add_hook(self._after, hook)

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Any] | None = None,
    ) -> None:
        """Compute the gradients of the leaves by the chain rule and add them to their ``.grad``.

        Args:
            gradient: the gradient of some loss with respect to this tensor; may be left out for a scalar (then 1).
            retain_graph: keep the graph for another backward (default: only with ``create_graph``).
            create_graph: record the backward pass, so that gradients can be differentiated again.
            inputs: accumulate into these tensors only.

        Raises:
            GradientError: when nothing here requires grad, the graph was freed, or ``gradient`` does not fit.
        """
        api.backward((self,), None if gradient is None else (gradient,), retain_graph, create_graph, inputs=inputs)

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        return wrap(self._array)

    @property
    def data(self) -> Tensor:
        return wrap(self._array)

    @data.setter
    def data(self, value: Any) -> None:
        """Use the memory of another tensor from now on, outside of any graph."""
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        self._array = value._array

    @property
    def _version(self) -> int:
        return inplace.version(self._array)

    # --- the glass box (everything else about it is in ``explain``) ------------------------------------------------

    def explain(self, wrt: Any = None, entry: Any = None, **options: Any) -> Any:
        """The chain rule for one derivative of this tensor, in symbols, formulas and numbers (``explain.explain``)."""
        from .explain import explain

        return explain(self, wrt, entry, **options)

    def backward_source(self) -> Any:
        """The backward pass as a NumPy program that a person would have written (``explain.backward_source``)."""
        from .explain import backward_source

        return backward_source(self)

    def backward_steps(self, **options: Any) -> Any:
        """The backward pass one vjp call at a time (``explain.backward_steps``)."""
        from .explain import backward_steps

        return backward_steps(self, **options)

    def annotate(self, **options: Any) -> Any:
        """The forward source, line by line, with values and gradients (``explain.annotate``)."""
        from .explain import annotate

        return annotate(self, **options)

    def draw(self, path: Any = None, **options: Any) -> Any:
        """The graph as a picture (``explain.draw``)."""
        from .explain import draw

        return draw(self, path, **options)

    # --- out of the library ---------------------------------------------------------------------------------------

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """The array itself (shared memory)."""
        if self._requires and not force:
            raise GradientError(
                message("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
            )
        memory_read("numpy")
        if self._array.dtype is dtypes.BFLOAT16:
            raise TypeError(
                message(
                    "Got unsupported ScalarType BFloat16",
                    "NumPy has no such type",
                    fix="Convert first: tensor.float().numpy().",
                )
            )
        return self._array

    def item(self) -> Any:
        """The number in a tensor with one entry."""
        if state.recorder is not None:
            state.recorder.leak(self, "item")
        if self._array.size != 1:
            raise DtypeError(
                message(
                    f"a Tensor with {self._array.size} elements cannot be converted to Scalar",
                    f"the tensor has shape {tuple(self._array.shape)}",
                    fix="Use .tolist() for all entries.",
                )
            )
        a = self._array
        return a.item() if a.dtype is not dtypes.BFLOAT16 else float(a.reshape(-1)[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError("Unable to avoid copy while creating an array as requested.")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in left_out.TENSOR]

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What NumPy's own functions return for a tensor: ``np.sin(x)`` is a tensor again."""
        return from_numpy(np.asarray(array))


variable.set_tensor_type(Tensor)
functions.attach(Tensor)
left_out.mark(Tensor)
