"""``torch.utils.hooks``: what registering a hook gives."""

from ..core.hooks import RemovableHandle

__all__ = ["RemovableHandle"]
