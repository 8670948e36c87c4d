"""`l2t export`: from a run in the ledger to a program of torch."""

import json

import torch

from l2t.command import main
from l2t_ray.config import Augment, Data, Record, Run, Target, Training
from l2t_ray.data.load import load_data
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.recorder import Recorder
from l2t_ray.ledger.spool import Ended
from l2t_ray.training.pack import train


def test_a_kept_network_comes_out_of_the_ledger_and_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = Data(name="digits", classes=("3", "8"), samples_per_class=4)
    data = load_data(settings, tmp_path / "data")
    keeping, plain = (
        Run(data=settings, method="scratch", seed=seed, target=Target(width=0.1), augment=Augment(flip=False),
            training=Training(epochs=1, batch_size=8), record=Record(evaluations=0, weights=weights))
        for seed, weights in ((0, "last"), (1, None))
    )  # fmt: skip
    ledger = Ledger("s")
    with ledger.writing(), Recorder(ledger) as recorder:
        for run in (keeping, plain):
            (outcome,) = train([run], data, None, device=torch.device("cpu"))
            ended = Ended.from_json(outcome.to_json())
            recorder.add(run, ended, "digits/4/scratch", "sha", {"device": "cpu", "shape": "x"})
    assert main(["export", keeping.key, "--out", "new/folder/net.pt2"]) == 0
    assert "logits of 2 classes (3, 8)" in capsys.readouterr().out
    files = {"classes.json": ""}
    logits = torch.export.load("new/folder/net.pt2", extra_files=files).module()(data.test_images)
    assert json.loads(files["classes.json"]) == ["3", "8"]
    accuracy = 100 * float((logits.argmax(-1) == data.test_labels).float().mean())
    entry = next(entry for entry in ledger.entries() if entry.key == keeping.key)
    assert abs(accuracy - entry.metrics["test_accuracy_percent"]) < 1e-3
    assert entry.tags["trace"] == "target.safetensors"

    assert main(["export", plain.key]) == 2
    assert "has kept no network (target.safetensors); set `record: {weights: last}`" in capsys.readouterr().err
    assert main(["export", "nothing"]) == 2
    assert "RUN must be the key or MLflow's id of a run in this ledger, got 'nothing'" in capsys.readouterr().err
    capsys.readouterr()
    (tmp_path / "file").touch()
    for out in ("file/net.pt2", "."):  # in a file; a folder
        assert main(["export", keeping.key, "--out", out]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{out}: --out must be a file that can be written")
