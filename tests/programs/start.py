"""The same start in every library: parameters and noise that come from NumPy's stream instead of torch's."""

import numpy as np
import torch


def same_start(model, seed=0, scale=1.0):
    """Fill the parameters from one NumPy stream, with the bounds of the usual initialisation."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            fan = p[0].numel() if p.dim() > 1 else p.numel()
            values = rng.uniform(-1, 1, tuple(p.shape)) * scale / fan**0.5
            if p.dim() == 1 and "norm" in name or "bn" in name:
                values = 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
            p.copy_(torch.from_numpy(values).to(p.dtype))
    return model


def noise(rng, *shape):
    """Standard normal numbers as a float32 tensor."""
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
