"""Networks of torchvision that are small enough for tests."""

import pytest
import torchvision

from l2t_ray.models import zoo
from tests.support.zoo import small


@pytest.fixture
def narrow(monkeypatch):
    """torchvision's networks have few channels."""
    zoo.plan.cache_clear()
    monkeypatch.setattr(torchvision.models, "get_model", small)
    yield
    zoo.plan.cache_clear()
