"""Networks with planted faults, and healthy ones: what ``chainrule.diagnose`` is scored on."""
