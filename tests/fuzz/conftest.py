"""The number of hostile inputs, told at the end."""

import pytest

from tests.fuzz.hostile import TRIED


@pytest.fixture
def tried():
    """Counts an input by its kind and what became of it."""
    return lambda kind, became: TRIED.update([(kind, became)])


def pytest_terminal_summary(terminalreporter):
    if TRIED:
        terminalreporter.section("hostile inputs")
        for kind in sorted({kind for kind, _ in TRIED}):
            parts = {became: n for (other, became), n in sorted(TRIED.items()) if other == kind}
            told = ", ".join(f"{n} {became}" for became, n in parts.items())
            terminalreporter.write_line(f"{kind}: {sum(parts.values())} tried, {told}")
        terminalreporter.write_line(f"{TRIED.total()} inputs tried")
