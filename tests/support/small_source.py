"""The smallest training of a source network, and a sweep that lacks its source and says how to train it."""

SMALL = {
    "out": "weights/small source's.pt",
    "source": {"arch": "resnet20", "width": 0.125},
    "data": {"name": "digits", "classes": ["0", "1"], "samples_per_class": 20},
    "training": {"epochs": 4, "batch_size": 16},
    "augment": {"crop_padding": 2, "flip": True},
    "seed": 3,
}
SOURCE = {
    "out": "weights/small.pt",
    "source": {"arch": "resnet20", "width": 0.125},
    "data": {"name": "digits", "classes": ["0", "1"], "samples_per_class": 20},
    "training": {"epochs": 2, "batch_size": 16},
}
TAUGHT = {
    "sweep": "taught",
    "run": {
        "data": {"name": "digits", "samples_per_class": 2, "classes": ["2", "3"]},
        "source": {"arch": "resnet20", "width": 0.125, "weights": "weights/small.pt", "train": "small.yaml"},
        "target": {"width": 0.1},
        "training": {"epochs": 1, "batch_size": 4},
    },
    "grid": [{"method": ["scratch", "ufm"], "seed": 0}],
    "execution": {"retries": 0},
}
