"""What the driver sends to a worker as JSON: how packs are trained in this launch, and the runs of a pack."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from l2t_ray.config import Data, Run
from l2t_ray.errors import InputError
from l2t_ray.run import AnyRun
from l2t_ray.trainer.run import OwnRun
from l2t_ray.training.storage import File, storage


@dataclass(frozen=True)
class Work:
    """How packs are trained in one launch: everything that is not a run's setting."""

    folder: str  # the working folder, from which relative paths count
    checkpoints: str  # a place that every node reaches; see `training.storage.storage`
    data_dir: str
    download: bool = True
    checkpoint_s: float = 60.0
    threads: int = 1
    fraction: float = 1.0  # of a card's memory, for torch's allocator
    report_s: float = 2.0
    methods: tuple[str, ...] = ()  # files of the user's methods
    trainer: str = ""  # JSON of `trainer.spec.Spec`; empty for the built-in one
    device: str = ""  # of the trial, as torch names it; empty: a card if there is one
    mps: str = ""  # the launch's name if MPS may run
    files: tuple[tuple[str, str], ...] = ()  # (path as the settings name it, SHA-256) of what workers read
    depot: str = ""  # the actor that hands them out, if a cluster was joined

    def to_json(self) -> str:
        """This object as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The object that `to_json` turned into JSON."""
        values = json.loads(text)
        files = tuple((path, sha256) for path, sha256 in values["files"])
        return cls(**{**values, "methods": tuple(values["methods"]), "files": files})

    def checkpoint(self, key: str) -> File:
        """The file of a run's newest checkpoint."""
        return storage(self.checkpoints) / f"{key}.ckpt"


def encode(runs: Sequence[AnyRun]) -> str:
    """A pack's runs as JSON, for a worker."""
    return json.dumps([{"key": run.key, "run": run.model_dump(mode="json")} for run in runs])


def decode(text: str) -> list[AnyRun]:
    """The runs that `encode` turned into JSON.

    Args:
        text: the JSON.

    Returns:
        Equal runs.

    Raises:
        InputError: if a key differs, because the worker has another version of the code or of a method.
    """
    runs: list[AnyRun] = []
    for item in json.loads(text):
        kind: type[AnyRun] = OwnRun if "trainer" in item["run"] else Run
        run = kind.model_validate_json(json.dumps(item["run"]))
        if run.key != item["key"]:
            raise InputError(
                f"run {item['key']}: the worker's key must be the driver's, got {run.key}; "
                "give both the same l2t-ray and methods"
            )
        runs.append(run)
    return runs


def whole(settings: Data) -> Data:
    """The settings of the whole data set: equal for runs that read the same images, whatever their number."""
    return settings.model_copy(update={"samples_per_class": 1, "validation_per_class": None, "normalize": "imagenet"})
