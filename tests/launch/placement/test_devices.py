"""Which cards CUDA_VISIBLE_DEVICES leaves, in the forms that batch systems write, by NVIDIA's programming guide."""

import pytest
import torch

from l2t_ray.errors import InputError
from l2t_ray.launch.placement import devices

CARDS = ["GPU-8932f937-d72c", "GPU-8a00aaaa-0001", "GPU-c0ffee00-0002"]
MIG = "MIG-41b35014-f1e2"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, CARDS),
        ("0,2", [CARDS[0], CARDS[2]]),
        (" 2 , 0", [CARDS[2], CARDS[0]]),
        (CARDS[1], [CARDS[1]]),
        ("GPU-8932,GPU-c", [CARDS[0], CARDS[2]]),  # beginnings
        (f"{MIG},MIG-GPU-{CARDS[0][4:]}/1/0", [MIG, f"MIG-GPU-{CARDS[0][4:]}/1/0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("none", []),
        ("void", []),
        ("all", []),
        ("1,-1,2", [CARDS[1]]),  # what follows one that is none is hidden
        ("1,7,2", [CARDS[1]]),
        ("GPU-0000,1", []),
        ("1,1", [CARDS[1]]),
        ("²", []),
        (",", []),
        ("99999999999999999999", []),
    ],
)
def test_the_list_is_read_as_cuda_reads_it(text, found):
    assert devices.visible_cards(text, CARDS) == found


def test_an_index_means_no_card_where_cuda_counts_otherwise_than_nvml():
    assert devices.visible_cards("0", CARDS, alike=False) == CARDS
    assert devices.visible_cards(CARDS[1], CARDS, alike=False) == [CARDS[1]]


def test_without_a_card_there_is_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert [group.device for group in devices.local_fleet()] == ["cpu"]


def test_cards_that_fail_are_refused_with_the_remedy(monkeypatch):
    def fail(index):
        raise RuntimeError("The NVIDIA driver on your system is too old\nmore")

    monkeypatch.setattr(devices, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", fail)
    with pytest.raises(
        InputError, match=r"2 graphics cards must be usable, got '.* too old'; set CUDA_VISIBLE_DEVICES"
    ):
        devices.local_fleet()
