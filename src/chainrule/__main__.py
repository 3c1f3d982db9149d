"""``python -m chainrule`` is the command ``chainrule``."""

from .cli import main

main(prog_name="chainrule")
