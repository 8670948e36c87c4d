"""Files of images for tests, in every form in which data sets come; the real ones where they are there."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from l2t_ray.config import Data
from tests.support.places import SHARED

CIFAR10 = SHARED / "data" / "cifar10-jpeg.tar"
TINY = SHARED / "data" / "tiny-imagenet-subset.tar"
PUBLISHED = SHARED / "weights" / "l2t-ww-resnet32-tinyimagenet.pth.tar"
needs_cifar10 = pytest.mark.skipif(not CIFAR10.exists(), reason="CIFAR-10's images are not in the shared folder")
needs_tiny = pytest.mark.skipif(not TINY.exists(), reason="Tiny ImageNet's images are not in the shared folder")


def png(colour, size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(seed, size=(64, 64), mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode=None).save(buffer, "JPEG")
    return buffer.getvalue()


def animals(n_train=3, n_test=2):
    """Files of an image folder: class "cat" is red, "dog" is green, the shade is the image's number."""
    files = {}
    for split, count in (("train", n_train), ("test", n_test)):
        for number in range(count):
            files[f"{split}/cat/{number}.png"] = png((100 + number, 0, 0))
            files[f"{split}/dog/{number}.png"] = png((0, 100 + number, 0))
    return files


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_tar(path, files, mode="w", top=""):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, files, top=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def folder_settings(path, samples=1, **more):
    return Data(name="image_folder", path=str(path), samples_per_class=samples, **more)


def tiny_settings(path, samples=3):
    return Data(name="tiny_imagenet", path=str(path), samples_per_class=samples)


def equal(a, b):
    return a.classes == b.classes and a.sha256 == b.sha256 and all(map(torch.equal, tensors(a), tensors(b)))


def tensors(data):
    return data.train_images, data.train_labels, data.test_images, data.test_labels
