"""What each launch of a sweep was predicted to take, what it took, and how busy every device was over time."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from l2t_ray.ledger.entries import Details, Entry
from l2t_ray.ledger.reader import Reader

TAG = "launch."


@dataclass(frozen=True)
class Device:
    """Samples of one device.

    Attributes:
        name: "cpu", "gpu 0"; on another machine of a cluster after its address.
        time_s: since the launch began.
        percent: of it that was busy, at each time.
        used_bytes: of its memory, at each time.
    """

    name: str
    time_s: tuple[float, ...]
    percent: tuple[float, ...]
    used_bytes: tuple[int, ...]

    @property
    def mean_percent(self) -> float | None:
        """Over the launch; None without a sample."""
        return sum(self.percent) / len(self.percent) if self.percent else None


@dataclass(frozen=True)
class Launch:
    """One launch.

    Attributes:
        sweep: its name.
        number: 1 for the sweep's first.
        n_runs: that it was to train.
        n_left: of them that it has not ended.
        fleet: the devices in words.
        predicted_wall_s: of the plan, None where something was unmeasured.
        wall_s: that it took.
        predicted_s: of training, for the runs that finished; None likewise.
        spent_s: of training, all runs added up.
        devices: with samples of each.
    """

    sweep: str
    number: int
    n_runs: int
    n_left: int
    fleet: str
    predicted_wall_s: float | None
    wall_s: float
    predicted_s: float | None
    spent_s: float
    devices: tuple[Device, ...]


def read_launches(sweeps: Collection[str], entries: Iterable[Entry], reader: Reader) -> tuple[list[Launch], list[str]]:
    """The launches that the ledger knows.

    Args:
        sweeps: their names.
        entries: of the ledger.
        reader: of the ledger.

    Returns:
        The launches by sweep, oldest first, and a notice for each that cannot be read.
    """
    manifests = [entry for entry in entries if entry.kind == "manifest" and entry.experiment in sweeps]
    details = reader.details([entry.run_id for entry in manifests])
    found, notices = [], []
    for entry in manifests:
        for number, name in enumerate(_files(details[entry.run_id]), start=1):
            content = reader.artifact(entry, name)
            try:
                found.append(_launch(entry.experiment, number, json.loads(content or b"")))
            except (ValueError, KeyError, TypeError) as error:
                notices.append(f"{entry.experiment}: {name} of run {entry.run_id} cannot be read ({error!r})")
    return sorted(found, key=lambda launch: (launch.sweep, launch.number)), notices


def launch_rows(launches: Iterable[Launch]) -> list[dict[str, Any]]:
    """Launches as plain values.

    Args:
        launches: any.

    Returns:
        One row a launch, each device with its mean utilisation in percent.
    """
    return [
        {
            **{name: value for name, value in vars(launch).items() if name != "devices"},
            "mean_percent": {device.name: device.mean_percent for device in launch.devices},
        }
        for launch in launches
    ]


def usage_rows(launches: Iterable[Launch]) -> list[dict[str, Any]]:
    """Every sample as plain values.

    Args:
        launches: any.

    Returns:
        One row for each launch, device and time.
    """
    return [
        {
            "sweep": launch.sweep, "launch": launch.number, "device": device.name, "time_s": time_s,
            "percent": percent, "used_bytes": used_bytes,
        }
        for launch in launches
        for device in launch.devices
        for time_s, percent, used_bytes in zip(device.time_s, device.percent, device.used_bytes, strict=True)
    ]  # fmt: skip


def _files(details: Details) -> list[str]:
    stamps = [name.removeprefix(TAG) for name in details.tags if name.startswith(TAG)]
    return [details.tags[f"{TAG}{stamp}"] for stamp in sorted(stamps, key=lambda stamp: (len(stamp), stamp))]


def _launch(sweep: str, number: int, content: dict[str, Any]) -> Launch:
    devices = [
        Device(name, tuple(values["time_s"]), tuple(values["percent"]), tuple(values["bytes"]))
        for name, values in (content.get("usage") or {"devices": {}})["devices"].items()
    ]
    plain = ("n_runs", "n_left", "fleet", "predicted_wall_s", "wall_s", "predicted_s", "spent_s")
    return Launch(sweep, number, **{name: content[name] for name in plain}, devices=tuple(devices))
