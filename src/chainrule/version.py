"""``torch.version``: chainrule's own version; no CUDA, no HIP."""

cuda = hip = xpu = None
debug = False
git_version = "unknown"
