"""From what the user has (NumPy, chainrule, PyTorch, JAX) to the one form that is checked."""
