"""Which cards are sampled, with a stand-in for NVIDIA's library."""

from types import SimpleNamespace

import pynvml
import pytest

from l2t_ray.launch.cluster.usage import Usage

UUIDS = ["GPU-aaaa-0", "GPU-bbbb-1"]
PART = "MIG-cccc-2"


@pytest.fixture
def cards(monkeypatch):
    """Two cards of a kind, and a part of one whose utilisation is not known; a handle is its device's UUID."""
    names = ["H100", "H100"]

    def rates(handle):
        if handle == PART:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=10 * (UUIDS.index(handle) + 1))

    def by_uuid(name):
        if name != PART.encode():
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return PART

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", UUIDS.__getitem__)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: handle.encode())  # as older versions do
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: names[UUIDS.index(handle)])
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", rates)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(used=7, total=70))
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return names


def sampled(**settings):
    usage = Usage(**settings)
    usage.tick()
    ((_, found),) = usage.samples
    return {name: value for name, value in found.items() if name != "cpu"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {"gpu 0": (10.0, 7), "gpu 1": (20.0, 7)}),
        ("1", {"gpu 1": (20.0, 7)}),
        (UUIDS[0], {"gpu 0": (10.0, 7)}),
        ("NoDevFiles", {}),
        ("", {}),
        (PART, {PART: (0.0, 7)}),
        ("MIG-gone", {}),
    ],
)
def test_the_cards_of_the_launch_are_sampled(cards, monkeypatch, text, found):
    if text is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert sampled() == found


def test_an_index_tells_no_card_among_unlike_ones_unless_the_bus_orders_them(cards, monkeypatch):
    cards[0] = "T4"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [*sampled()] == ["gpu 0", "gpu 1"]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [*sampled()] == ["gpu 0"]


def test_an_actor_samples_its_whole_machine(cards, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # Ray hides all cards from an actor without one
    assert [*sampled(visible=None)] == ["gpu 0", "gpu 1"]
