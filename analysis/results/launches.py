"""A sweep's launches: the time the plan predicted, the time they took, and each device's use over time."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from l2t_ray.ledger.entries import Details, Entry
from l2t_ray.ledger.reader import Reader

TAG = "launch."  # + milliseconds at its start: a tag that holds the name of the launch's file


@dataclass(frozen=True)
class Device:
    """Samples of one device during a launch; `time_s`, `percent` and `used_bytes` are equally long."""

    name: str  # "cpu" or "gpu 0"; the address of another machine of a cluster comes first
    time_s: tuple[float, ...]  # since the launch began
    percent: tuple[float, ...]  # utilisation
    used_bytes: tuple[int, ...]  # memory in use

    @property
    def mean_percent(self) -> float | None:
        """Mean utilisation over the launch; None without a sample."""
        return sum(self.percent) / len(self.percent) if self.percent else None


@dataclass(frozen=True)
class Launch:
    """One launch of a sweep."""

    sweep: str
    number: int  # 1 is the sweep's first launch
    n_runs: int  # runs it was to train
    n_left: int  # of those, runs it did not end
    fleet: str  # the devices in words
    predicted_wall_s: float | None  # by the plan; None where it lacked a measurement
    wall_s: float
    predicted_s: float | None  # training time of the runs that finished; None likewise
    spent_s: float  # training time that these took
    devices: tuple[Device, ...]


def read_launches(sweeps: Collection[str], entries: Iterable[Entry], reader: Reader) -> tuple[list[Launch], list[str]]:
    """The launches of the sweeps, oldest first, and a notice for each that cannot be read."""
    manifests = [entry for entry in entries if entry.kind == "manifest" and entry.experiment in sweeps]
    details = reader.details([entry.run_id for entry in manifests])
    launches, notices = [], []
    for entry in manifests:
        for number, name in enumerate(_file_names(details[entry.run_id]), start=1):
            content = reader.artifact(entry, name)
            try:
                launches.append(_launch(entry.experiment, number, json.loads(content or b"")))
            except (ValueError, KeyError, TypeError) as error:
                notices.append(f"{entry.experiment}: {name} of run {entry.run_id} cannot be read ({error!r})")
    return sorted(launches, key=lambda launch: (launch.sweep, launch.number)), notices


def launch_rows(launches: Iterable[Launch]) -> list[dict[str, Any]]:
    """One row per launch, with each device's mean utilisation in percent."""
    return [
        {
            **{name: value for name, value in vars(launch).items() if name != "devices"},
            "mean_percent": {device.name: device.mean_percent for device in launch.devices},
        }
        for launch in launches
    ]


def usage_rows(launches: Iterable[Launch]) -> list[dict[str, Any]]:
    """One row per launch, device and sample."""
    return [
        {
            "sweep": launch.sweep, "launch": launch.number, "device": device.name, "time_s": time_s,
            "percent": percent, "used_bytes": used_bytes,
        }
        for launch in launches
        for device in launch.devices
        for time_s, percent, used_bytes in zip(device.time_s, device.percent, device.used_bytes, strict=True)
    ]  # fmt: skip


def _file_names(details: Details) -> list[str]:
    stamps = [name.removeprefix(TAG) for name in details.tags if name.startswith(TAG)]
    by_number = sorted(stamps, key=lambda stamp: (len(stamp), stamp))
    return [details.tags[f"{TAG}{stamp}"] for stamp in by_number]


def _launch(sweep: str, number: int, content: dict[str, Any]) -> Launch:
    devices = [
        Device(name, tuple(values["time_s"]), tuple(values["percent"]), tuple(values["bytes"]))
        for name, values in (content.get("usage") or {"devices": {}})["devices"].items()
    ]
    plain = ("n_runs", "n_left", "fleet", "predicted_wall_s", "wall_s", "predicted_s", "spent_s")
    return Launch(sweep, number, **{name: content[name] for name in plain}, devices=tuple(devices))
