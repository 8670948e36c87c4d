"""Trains the source networks that a sweep lacks, each as a Ray actor with progress and an entry in the ledger.

The lock of a file of weights is the task's (`pretrain.pretrain`): it holds as long as the process that writes, which
may outlive a killed driver. Another launch that lacks the file waits on the same machine, then takes it; tasks on
machines without a shared disk each train it, and the driver keeps what was there first.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l2t_ray.config import Execution
from l2t_ray.errors import InputError, LedgerUnavailableError
from l2t_ray.files import write_atomic
from l2t_ray.launch.cluster.connection import cluster
from l2t_ray.launch.placement.limits import cores
from l2t_ray.sweepfile.source_file import read_pretraining

if TYPE_CHECKING:
    from l2t_ray.ledger.ledger import Ledger
    from l2t_ray.training.source_settings import Pretraining

POLL_S = 1.0


class SourceTrainer:
    """An actor that trains one source network and reports its progress meanwhile.

    Args:
        settings: JSON of `Pretraining`.
        start: content of the weights to start from, for a machine that cannot read them; None for a random start.
        folder: the working folder, if the node has it.
        data_dir: for downloads and caches.
        download: whether a missing data set may be downloaded.
        threads: of torch.
    """

    def __init__(
        self, settings: str, start: bytes | None, folder: str, data_dir: str, threads: int, *, download: bool
    ) -> None:
        self._settings, self._start, self._folder, self._data_dir = settings, start, folder, data_dir
        self._threads, self._download = threads, download
        self._lines: list[str] = []

    def train(self) -> dict[str, Any]:
        """Trains, from the checkpoint if there is one."""
        import torch

        from l2t_ray.launch.worker.source import pretrain
        from l2t_ray.training.source_settings import Pretraining

        if Path(self._folder).is_dir():
            os.chdir(self._folder)
        torch.set_num_threads(self._threads)
        settings = Pretraining.model_validate_json(self._settings)
        if self._start is not None and not (path := Path(str(settings.source.weights))).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, self._start)
        try:
            card, is_new = pretrain(
                settings, Path(self._data_dir), download=self._download, wait=True, say=self._lines.append
            )
        except InputError as error:
            return {"problems": error.problems}
        except OSError as error:
            return {"disk": (error.errno, error.strerror or str(error), error.filename)}
        return {"card": card, "weights": Path(settings.out).read_bytes(), "is_new": is_new, "lines": self._lines}

    def said(self, n_known: int) -> list[str]:
        """The lines of progress so far."""
        return self._lines[n_known:]


def train_sources(
    files: Mapping[str, Path],
    execution: Execution,
    ledger: "Ledger",
    say: Callable[[str], None],
    *,
    address: str | None = None,
    download: bool = True,
) -> None:
    """Trains the source networks side by side, one on each card if there are cards, and records each.

    A network that starts from another one's weights waits for it.

    Args:
        files: by file of weights, the YAML file that trains them.
        execution: of the sweep file.
        ledger: of the sweep; this process is its writer.
        say: receives lines of progress.
        address: of a running Ray cluster; None for this machine.
        download: whether data sets may be downloaded.

    Raises:
        InputError: if a training is refused, or raises more often than `execution.retries` allows.
        OSError: if a disk is full or not writable.
    """
    from l2t_ray.launch.worker.source import as_record
    from l2t_ray.training.model_card import result_line

    with cluster(address, n_cores=cores()):
        import ray

        data_dir = str(Path(execution.data_dir).resolve())
        n_gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
        kind = ray.remote(SourceTrainer).options(num_cpus=1, num_gpus=n_gpus, max_concurrency=2)
        threads = execution.threads if isinstance(execution.threads, int) else max(1, cores() // len(files))
        waiting = dict.fromkeys(files, execution.retries)
        settings = {weights: read_pretraining(file, data_dir=Path(data_dir)) for weights, file in files.items()}
        live: dict[Any, tuple[str, Any, list[int]]] = {}
        while waiting or live:
            busy = {weights for weights, _, _ in live.values()}
            for weights in [weights for weights in waiting if weights not in busy]:
                if (start := settings[weights].source.weights) in waiting:
                    continue
                if start in files:  # trained by now
                    settings[weights] = read_pretraining(files[weights], data_dir=Path(data_dir))
                text, content = settings[weights].model_dump_json(), Path(start).read_bytes() if start else None
                actor = kind.remote(text, content, str(Path.cwd()), data_dir, threads, download=download)
                live[actor.train.remote()] = (weights, actor, [0])
            ended, _ = ray.wait([*live], timeout=POLL_S)
            for weights, actor, n_known in live.values():
                _tell(weights, actor, n_known, say)
            for task in ended:
                weights, actor, n_known = live.pop(task)
                try:
                    answer = ray.get(task)
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().splitlines()[-1]
                    waiting[weights] -= 1
                    if waiting[weights] < 0:
                        law = f"the training of {weights} must succeed"
                        raise InputError(f"{files[weights]}: {law}, got {reason}; correct the file") from error
                    say(f"{weights}: {reason}; it goes on from its checkpoint")
                    continue
                finally:
                    ray.kill(actor)
                for line in answer.get("lines", [])[n_known[0] :]:
                    say(f"{weights}: {line}")
                if "problems" in answer:
                    raise InputError([f"{files[weights]}: {problem}" for problem in answer["problems"]])
                if "disk" in answer:
                    raise OSError(*answer["disk"])
                is_new = (
                    answer["is_new"] or waiting[weights] < execution.retries
                )  # an earlier attempt trained it and died before it answered
                del waiting[weights]
                card = kept(Path(weights), settings[weights], answer)
                if (
                    is_new and card["weights_sha256"] == answer["card"]["weights_sha256"]
                ):  # others are in their launch's experiment
                    ledger.spool.put(as_record(settings[weights], card, ledger.sweep))
                    try:
                        ledger.flush()
                    except LedgerUnavailableError as error:
                        say(f"{error}; the weights are written, their entry waits in {ledger.spool.folder}")
                say(result_line(Path(weights), card))


def kept(out: Path, settings: "Pretraining", answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Writes weights that a task has trained to the driver's disk, unless the file exists there."""
    from l2t_ray.training.model_card import card_path, find_card

    if (card := find_card(out, settings)) is not None:
        return card
    card = dict(answer["card"])  # trained on another machine
    write_atomic(card_path(out), json.dumps(card, indent=1).encode())
    write_atomic(out, answer["weights"])
    return card


def _tell(weights: str, actor: Any, n_known: list[int], say: Callable[[str], None]) -> None:
    import ray

    try:
        lines = ray.get(actor.said.remote(n_known[0]), timeout=10 * POLL_S)
    except ray.exceptions.RayError:  # it died or is busy; the answer of `train` decides
        return
    n_known[0] += len(lines)
    for line in lines:
        say(f"{weights}: {line}")
