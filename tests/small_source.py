"""The smallest training of a source network."""

SMALL = {
    "out": "weights/small source's.pt",
    "source": {"arch": "resnet20", "width": 0.125},
    "data": {"name": "digits", "classes": ["0", "1"], "samples_per_class": 20},
    "training": {"epochs": 4, "batch_size": 16},
    "augment": {"crop_padding": 2, "flip": True},
    "seed": 3,
}
