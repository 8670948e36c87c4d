"""What a run keeps beside its numbers: the trained network and its predictions; and the network made to work alone.

| file | content |
| --- | --- |
| `target.safetensors` | the target's parameters and running statistics; the run's settings and classes as metadata |
| `predictions.parquet` | a row for each test image: its label, the predicted class, and every class' probability |
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.data.augment import IMAGENET, Normalization, normalize
from l2t_ray.errors import InputError
from l2t_ray.methods import Method
from l2t_ray.models.weights import load_source

if TYPE_CHECKING:
    from l2t_ray.models import TargetNetwork
    from l2t_ray.training.learner import Learner

GROUPS = ("theta", "statistics")


def target_file(learner: "Learner", classes: Sequence[str]) -> bytes:
    """Returns the trained target of a run as a safetensors file; `load_predictor` reads it."""
    from safetensors.torch import save

    state = learner.state()
    for name in learner.extra_names:  # of the method, such as projections of matched maps: not the target's
        del state["theta"][name]
    tensors = {f"{group}.{name}": tensor.contiguous() for group in GROUPS for name, tensor in state[group].items()}
    settings = learner.run.model_dump_json()
    about = {"classes": json.dumps([*classes]), "normalization": json.dumps(learner.normalization)}
    return save(tensors, metadata={"run": settings, **about})


def predictions_file(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> bytes:
    """Returns the predictions of one run as a Parquet file.

    Args:
        logits: [M, N], of the test images in the data set's order.
        labels: int64 [M].
        classes: their names.
    """
    import pyarrow as pa
    from pyarrow import parquet

    shares = logits.float().softmax(-1).cpu().numpy()
    names = pa.array(classes)
    columns = {
        "label": pa.DictionaryArray.from_arrays(pa.array(labels.cpu().numpy(), pa.int32()), names),
        "predicted": pa.DictionaryArray.from_arrays(pa.array(shares.argmax(1), pa.int32()), names),
        **{f"probability of {name}": shares[:, index] for index, name in enumerate(classes)},
    }
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


class Predictor(nn.Module):
    """A trained target that takes images as bytes.

    Args:
        run: its settings.
        state: its tensors, as `target_file` names them.
        classes: names of the outputs.
        normalization: mean and standard deviation of the channels.

    Raises:
        InputError: if the method's network needs a source whose weights are not there any more.
    """

    def __init__(
        self, run: Run, state: dict[str, Tensor], classes: Sequence[str], normalization: Normalization = IMAGENET
    ) -> None:
        super().__init__()
        self.side, self.normalization = run.data.image_size, normalization
        method = registry.METHODS[run.method]
        assert isinstance(method, Method)
        self.classes = tuple(classes)
        self.network = _network(method, run, len(self.classes))
        self.places = {name: f"t{number}" for number, name in enumerate(state)}  # a buffer's name has no dots
        for name, tensor in state.items():
            self.register_buffer(self.places[name], tensor)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits [B, N] of images, uint8 [B, 3, S, S]."""
        groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
        for name, place in self.places.items():
            group, _, short = name.partition(".")
            groups[group][short] = getattr(self, place)
        x = normalize(images, groups["theta"]["fc.bias"].dtype, self.normalization)
        logits: Tensor = self.network.predict(groups["theta"], groups["statistics"], x)
        return logits


def _network(method: Method, run: Run, n_classes: int) -> "TargetNetwork":
    """The network without values; the source is read only where the method builds a network of its own from it."""
    is_own = type(method).target is not Method.target
    if not (is_own and "source" in method.uses and run.source.weights):
        return method.target(run, n_classes, None)
    try:
        source = load_source(run.source, run.data.image_size)
    except InputError as lost:
        if not type(method).__module__.startswith("l2t_ray."):
            raise
        try:
            return method.target(run, n_classes, None)  # most of ours take the settings alone
        except Exception:  # such as an assertion that there is a source
            raise lost from None
    return method.target(run, n_classes, source)


def load_predictor(content: bytes) -> Predictor:
    """Returns the trained target of a `target.safetensors` file.

    Raises:
        InputError: if the file is damaged, or of another program.
    """
    import safetensors
    from safetensors.torch import load

    try:
        state = load(content)
        size = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + size])["__metadata__"]
        run, classes = Run.model_validate_json(about["run"]), json.loads(about["classes"])
        mean, std = json.loads(about.get("normalization", "null")) or IMAGENET  # older files have none
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"target.safetensors: must be a file that a run of l2t-ray kept, got {error}") from error
    return Predictor(run, state, classes, (tuple(mean), tuple(std))).eval()


def export(content: bytes, path: Path) -> Predictor:
    """Writes a `target.safetensors` file as a program of torch.export, which predicts without l2t-ray.

    Args:
        content: of the file.
        path: of the program; `torch.export.load(path).module()` takes images, uint8 [B, 3, S, S], and returns logits.

    Returns:
        The network, with its `side` in pixels and the names of its `classes`.
    """
    predictor = load_predictor(content)
    images = torch.zeros(2, 3, predictor.side, predictor.side, dtype=torch.uint8)
    with torch.no_grad():
        predictor(images)  # once for real: what it keeps for later calls must not be the tracing's
        program = torch.export.export(
            predictor, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
        )
    torch.export.save(program, path, extra_files={"classes.json": json.dumps(predictor.classes)})
    return predictor
