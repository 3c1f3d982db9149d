"""Tests against PyTorch run only where it is installed (``pip install -e '.[parity]'``).

Without it nothing here is collected, so a user's test command needs no PyTorch; ``pytest tests/parity`` then finds no
tests and exits with code 5, so the check cannot pass by running nothing.
"""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["*"]
