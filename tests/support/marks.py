"""Marks of pytest that several files set."""

import pytest

# of tests that start launches, servers or hosts: pytest's limit ends the whole run, so it is for what hangs alone
LONG = pytest.mark.timeout(1800)
