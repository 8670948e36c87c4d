"""The public API: small, documented, and imported when it is first used."""

import re
import subprocess
import sys

import pytest

import analysis
import l2t_ray
from tests.support.places import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("package", [l2t_ray, analysis])
def test_every_public_name_exists_and_is_documented(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert re.search(rf"`[^`]*\b{name}\b", PAGE), name
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_importing_the_packages_imports_no_library():
    heavy = "('torch', 'pydantic', 'numpy', 'pandas')"
    code = f"import sys, l2t_ray, analysis; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
