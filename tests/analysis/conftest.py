"""What tests of the analysis share: figures that are drawn once, not three times."""

import pytest

from analysis.figures import style


@pytest.fixture
def every_format():
    """Figures are written in every format, as users get them; other tests write the page's format alone."""


@pytest.fixture(autouse=True)
def _figures_as_svg_alone(request, monkeypatch):
    if "every_format" not in request.fixturenames:
        for kind in [*style.FORMATS][1:]:
            monkeypatch.delitem(style.FORMATS, kind)
