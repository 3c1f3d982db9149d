"""These are programs, not tests: they say ``import torch`` and import each other as scripts do. Tests run them whole."""

collect_ignore_glob = ["*.py"]
