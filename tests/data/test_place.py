"""Images that fit and images that do not: the same batches."""

import threading

import pytest
import torch

from l2t_ray.data import place
from l2t_ray.data.place import Images

CPU = torch.device("cpu")
PICTURES = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PLACES = torch.tensor([40, 3, 3, 17, 9, 0, 49])
SPLIT = torch.tensor([5, 1, 0, 6, 2, 4, 3]).split(3)


@pytest.fixture(params=[True, False], ids=["fits", "does-not-fit"])
def there(request, monkeypatch):
    monkeypatch.setattr(place, "fits", lambda n_bytes, device: request.param)
    return request.param


def test_batches_are_the_images_at_the_rows_wherever_they_lie(there):
    images = Images(PICTURES, PLACES, CPU)
    assert (images.there is not None) == there
    assert (len(images), images.size) == (7, 8)
    batches = [*images.batches(SPLIT)]
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat(batches), PICTURES[PLACES[torch.cat(SPLIT)]])
    assert torch.equal(images.take(SPLIT[0]), batches[0])
    assert [*images.batches([])] == []


def test_the_first_ones_are_images_of_their_own(there):
    first = Images(PICTURES, PLACES, CPU).first(2)
    assert torch.equal(first.take(torch.arange(2)), PICTURES[[40, 3]])
    assert torch.equal(Images(PICTURES, None, CPU).first(2).take(torch.arange(2)), PICTURES[:2])


def test_all_images_of_a_mapped_file_are_not_copied(there):
    images = Images(PICTURES, None, CPU)
    assert images.there.data_ptr() == PICTURES.data_ptr()


def test_one_batch_is_read_ahead_and_no_more(monkeypatch):
    monkeypatch.setattr(place, "fits", lambda n_bytes, device: False)
    images = Images(PICTURES, PLACES, CPU)
    read, begun = [], threading.Semaphore(0)
    original = images._read

    def noted(rows):
        read.append(rows.tolist())
        begun.release()
        return original(rows)

    monkeypatch.setattr(images, "_read", noted)
    batches = images.batches([torch.tensor([row]) for row in range(4)])
    assert read == []
    for n_used in range(1, 4):
        next(batches)
        for _ in range(2 if n_used == 1 else 1):
            assert begun.acquire(timeout=10)
        assert read == [[row] for row in range(n_used + 1)]
    batches.close()
    assert threading.active_count() == 1 or all("images" not in thread.name for thread in threading.enumerate())


def test_what_cannot_be_read_ahead_is_raised_where_it_is_used(monkeypatch):
    monkeypatch.setattr(place, "fits", lambda n_bytes, device: False)
    batches = Images(PICTURES, PLACES, CPU).batches([torch.tensor([0]), torch.tensor([99])])
    next(batches)
    with pytest.raises(IndexError):
        next(batches)


def test_half_of_the_free_memory_is_enough(monkeypatch):
    memory = type("Memory", (), {"available": 1000})()
    monkeypatch.setattr(place.psutil, "virtual_memory", lambda: memory)
    assert place.fits(500, CPU)
    assert not place.fits(501, CPU)


@pytest.mark.gpu
def test_on_a_gpu_images_of_the_host_arrive_as_they_are(monkeypatch):
    card = torch.device("cuda")
    assert place.fits(1 << 20, card)
    assert not place.fits(1 << 50, card)
    monkeypatch.setattr(place, "fits", lambda n_bytes, device: False)
    split = [torch.randint(50, (20,)) for _ in range(40)]
    for rows, batch in zip(split, Images(PICTURES, None, card).batches(split), strict=True):
        torch.cuda._sleep(100_000)
        assert batch.device.type == "cuda"
        assert torch.equal((batch + 0).cpu(), PICTURES[rows])
