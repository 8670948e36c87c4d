"""What tests of the ledger share: runs of a described method, and how they ended."""

from dataclasses import dataclass, field

from l2t_ray.config import Run


@dataclass(frozen=True)
class Described:
    name: str = "described"
    uses: frozenset = frozenset({"transfer.pairs"})
    options: dict = field(
        default_factory=lambda: {"depth": 2, **{f"option_{number:03}": number for number in range(150)}}
    )


@dataclass
class Ended:
    key: str
    status: str = "finished"
    reason: str = ""
    metrics: dict = field(
        default_factory=lambda: {"train_loss": [(1, 2.5), (2, 1.5)], "test_accuracy_percent": [(2, 40.0)]}
    )
    wall_s: float = 12.5
    peak_bytes: int = 1 << 20
    artifacts: dict = field(default_factory=dict)


def make_run(seed=0, **settings):
    return Run.model_validate({
        "data": {"name": "digits", "samples_per_class": 10},
        "method": "described",
        "seed": seed,
        **settings,
    })


def put(ledger, run, **settings):
    record = ledger.record(run, Ended(run.key, **settings), "digits/10/described", tags={"shape": "s", "device": "cpu"})
    ledger.flush()
    return record
