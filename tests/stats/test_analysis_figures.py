"""How methods look: each its own colour, marker and line, in every figure the same."""

from itertools import combinations

import pytest

from analysis.figures import FREE, LOOKS, STEP, looks
from l2t_ray import registry

OWN = [f"l2t_www/beta={beta}" for beta in (0.1, 0.5, 1, 2)] + ["mine", "yours", "theirs"]


def test_every_registered_method_has_a_look_of_its_own():
    registry.load()
    built_in = {name for name, method in registry.METHODS.items() if type(method).__module__.startswith("l2t_ray.")}
    assert len(built_in) >= 11
    assert built_in - LOOKS.keys() <= {"no_transfer", "other"}  # of other tests
    for one, other in combinations(LOOKS.values(), 2):
        assert (one.color, one.marker) != (other.color, other.marker)
        assert one.marker != other.marker
    assert len({look.color for look in LOOKS.values()}) == len(LOOKS)


def test_a_look_does_not_depend_on_what_else_is_drawn():
    together = looks([*LOOKS, *OWN])
    assert {name: look for name, look in together.items() if name in LOOKS} == LOOKS
    for name in OWN:
        assert looks([name])[name] == together[name] == looks(["spottune", *reversed(OWN)])[name]
    assert [*looks(["ufm", "mine", "scratch"])] == ["ufm", "mine", "scratch"]


@pytest.mark.parametrize("n", [7, len(FREE), len(FREE) + 5])
def test_methods_of_ones_own_are_told_apart_as_long_as_looks_last(n):
    found = looks([f"method{i}" for i in range(n)])
    assert len(found) == n
    assert len({*found.values()}) == min(n, len(FREE))
    assert not {*found.values()} & {*LOOKS.values()}
    assert all(len(FREE) % divisor for divisor in range(2, STEP + 1) if STEP % divisor == 0)
