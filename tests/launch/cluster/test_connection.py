"""What becomes of a launch where Ray starts late or not at all."""

import pytest
import ray

from l2t_ray.errors import InputError
from l2t_ray.launch.cluster import connection


@pytest.fixture
def starts(monkeypatch):
    """Answers of Ray's start, an error each where it fails; Ray itself is not started."""
    answers, asked = [], []

    def init(**settings):
        asked.append(settings)
        if error := answers.pop(0):
            raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return answers, asked


def test_a_ray_that_a_busy_machine_does_not_start_is_tried_again(starts):
    answers, asked = starts
    answers += [Exception("The node with node ID abc was not found in time"), None]
    with connection.cluster(None, n_cores=1) as is_ours:
        assert is_ours
    assert [settings["address"] for settings in asked] == ["local", "local"]


def test_a_ray_that_never_starts_is_told_with_the_remedy(starts):
    answers, asked = starts
    answers += [Exception("not found in time")] * 9
    with pytest.raises(InputError, match="Ray must start on this machine, got not found in time"):
        connection.cluster(None, n_cores=1).__enter__()
    assert len(asked) == connection.START_TRIES


def test_a_cluster_that_is_not_there_is_asked_once(starts):
    answers, asked = starts
    answers += [ConnectionError("nobody")]
    with pytest.raises(InputError, match="must name a running Ray cluster, got '192"):
        connection.cluster("192.0.2.1:6379", n_cores=1).__enter__()
    assert len(asked) == 1
