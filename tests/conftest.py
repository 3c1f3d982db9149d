"""Settings for all tests: property tests are reproducible in CI and have no time limit per example."""

import os

from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=50)
# derandomize: the same examples on every CI run, so a failure there is the change's own
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_terminal_summary(terminalreporter):
    """Say how many random programs were compiled and compared (``tests/compile/test_random.py``)."""
    graphs, ops = 0, set()
    for report in terminalreporter.stats.get("passed", []):
        properties = dict(report.user_properties)
        graphs += properties.get("random graphs", 0)
        ops.update(properties.get("random ops", ()))
    if graphs:
        terminalreporter.write_line(
            f"{graphs} random programs compiled and compared, of {len(ops)} kinds of registry ops"
        )
