"""How many seeds a difference takes: the search, on a power that is known."""

import pytest

from l2t_ray.statistics import power


@pytest.mark.parametrize("n", [23, 24, 29, 30, 37, 38, 50])
def test_the_fewest_seeds_with_the_power_asked_for_are_found_wherever_they_lie(monkeypatch, n):
    # Noether's formula says 29.2; the search begins between 23 and 37 seeds
    monkeypatch.setattr(power, "mann_whitney_power", lambda difference, sds, seeds, **_: 0.8 if seeds >= n else 0.79)
    assert power.needed_seeds(0.75, (1.0, 1.0)) == n
