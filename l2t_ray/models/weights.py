"""Files of weights: `l2t_ray.pretrain` writes them, runs read them; also reads the published L2T-ww checkpoint.

Others' files are read if they hold the tensors of the network: a bare state_dict or one within a checkpoint, with the
prefixes that DataParallel, torch.compile and the like put before its names.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from l2t_ray.config import Source, Target
from l2t_ray.config.sections import file_in
from l2t_ray.data.kinds import identify, read_head
from l2t_ray.data.names import composed, twin
from l2t_ray.errors import InputError
from l2t_ray.hubs import hub_of
from l2t_ray.models.backbone import Backbone
from l2t_ray.models.build import build
from l2t_ray.models.zoo import official_shapes, under_own_names
from l2t_ray.published import official_tag
from l2t_ray.registry import IMAGE_SIZE, SIZES, ZOO, has_places

_WITHIN = ("state_dict", "model_state_dict", "model", "net", "network")  # where checkpoints keep the tensors
_WRAPPERS = re.compile(r"^(?:(?:module|model|net|network|backbone|_orig_mod|_fsdp_wrapped_module)\.)+")
_INSIDE = re.compile(r"(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_COUNTER = "num_batches_tracked"  # of batch norm, which no old file has and no network here reads
_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF"  # how torch.save began files before it wrote zips
_CUT = "a file that is cut short or damaged"
_AGAIN = "fetch or train it again"
_SAVE = "save its state_dict()"
_EXPORT = "read it where it was written, and write its tensors with torch.save, under the network's names"
_KINDS = (  # how files begin, what they are, remedy; further ones are in `data.kinds`
    (rb"(?:[\x81-\x8f]|\xde..|\xdf.{4})(?:[\xa1-\xbf]|\xd9.)[\w./-]", "a msgpack file, as Flax writes it", _EXPORT),
    (rb"\x08[\1-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42]", "an ONNX model", _EXPORT),
    (rb".{4}TFL3", "a TensorFlow Lite model", _EXPORT),
    (rb'\s*\{.*"weight_map"', "an index of shards", "read all that it names, and torch.save them as one state_dict"),
)
_ZIPS = (  # a member's name, what it is in, remedy
    (r"/constants\.pkl$", "a TorchScript module", f"read it with torch.jit.load, and {_SAVE}"),
    (r"/archive_format$", "a program of torch.export", f"read it with torch.export.load, and {_SAVE}"),
    (r"\.npy$", "NumPy arrays (.npz)", "read it with numpy.load, and write its tensors with torch.save"),
    (r"\.weights\.h5$", "a Keras model", _EXPORT),
)
# The published checkpoint's block1, blocks2.0-3, block3, ... are our stages.0.0, stages.0.1-4, stages.1.0, ...
_PUBLISHED = (
    (re.compile(r"^block([135])\."), lambda match: f"stages.{(int(match[1]) - 1) // 2}.0."),
    (re.compile(r"^blocks([246])\.(\d+)\."), lambda match: f"stages.{int(match[1]) // 2 - 1}.{int(match[2]) + 1}."),
)


def source_state(network: Backbone) -> dict[str, Any]:
    """Returns the content of a weights file; `load_source` reads it with `weights_only=True`."""
    return {
        "arch": network.arch,
        "width": network.width,
        "num_classes": network.n_classes,
        "classes": list(network.classes or ()),
        "history": [dict(part) for part in network.history],
        "state_dict": network.state_dict(),
    }


def load_source(settings: Source | Target, image_size: int = IMAGE_SIZE) -> Backbone:
    """Reads the frozen source network, or the one that a target starts from, from a file of weights, on the CPU.

    Args:
        settings: architecture, width, levels and the file.
        image_size: H = W of the images that it will see.

    Returns:
        The network in eval mode, its parameters without gradient.

    Raises:
        InputError: if the file is missing, damaged, something else than weights, of another network, or not finite.
    """
    setting = f"{type(settings).__name__.lower()}.weights"
    if settings.file is None:
        raise InputError(f"{setting}: a method with a source needs a file of weights; name one")
    path = Path(settings.file)
    if path.is_dir():
        raise InputError(f"{path}: {setting} must be a file, got a folder; {file_in(path)}")
    if not path.is_file():
        if found := twin(path):
            rule = f"{setting} must be spelled as on the disk, {str(found)!a}"
            raise InputError(f"{path}: {rule}, got another Unicode form; rename one of them")
        raise InputError(f"{path}: {setting} does not exist; train one with python -m l2t_ray.pretrain FILE")
    hub, tag = hub_of(settings.arch), official_tag(settings.arch, path)  # another machine has it in another folder
    loaded = _load(path) if hub is None or tag is None else hub.read(path, settings.arch, tag, image_size)
    about = loaded if isinstance(loaded, Mapping) else {}
    network = _build(path, settings, image_size, _tensors(path, loaded), about)
    network.classes, history = _classes(path, about.get("classes"), network.n_classes), about.get("history")
    if isinstance(history, list | tuple) and all(isinstance(part, Mapping) and "data" in part for part in history):
        network.history = tuple(history)
    return network.requires_grad_(False).eval()


def _load(path: Path) -> Any:
    """Returns what torch reads; refuses a file that is something else, or holds more than tensors."""
    try:
        head = read_head(path)
        if head.startswith(b"PK"):
            _check_zip(path)
        elif re.match(rb"\x80[\2-\5]", head) and not head.startswith(_TORCH):
            raise _refusal(path, "a pickle that torch.save has not written", f"read it in Python, and {_SAVE}")
        elif found := next((kind[1:] for kind in _KINDS if re.match(kind[0], head, re.DOTALL)), identify(head)):
            raise _refusal(path, found[0], found[1] or "name another file")
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)|<class '([\w.]+)'>", str(error))
        if named is None:
            raise _refusal(path, _CUT if head.startswith(_TORCH) else "no weights", _AGAIN) from error
        what = f"it holds a pickled object ({named[1] or named[2]}), not only tensors"
        raise _refusal(path, f"more than tensors and plain values: {what}", _SAVE) from error
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise _refusal(path, _CUT, _AGAIN) from error


def _check_zip(path: Path) -> None:
    """Refuses a zip that torch.save has not written, or that differs from its checksums, which torch does not read."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for pattern, what, remedy in _ZIPS:
            if any(re.search(pattern, name) for name in names):
                raise _refusal(path, what, remedy)
        if not any(name.endswith("/data.pkl") for name in names):
            what = f"a zip of {', '.join(names[:3])}" if names else "an empty zip"
            raise _refusal(path, what, "unpack it, and name the file of weights")
        folders = [one.filename for one in archive.infolist() if one.external_attr & 0x10 and not one.is_dir()]
        archive.filelist = [member for member in archive.filelist if member.CRC]  # 0: torch was told to compute none
        if damaged := archive.testzip() or next(iter(folders), None):  # torch takes a folder for no bytes
            raise _refusal(path, f"a damaged one, whose {damaged} is not as it was saved", "download or save it again")


def _tensors(path: Path, loaded: Any) -> dict[str, Tensor]:
    """Returns the named tensors of a checkpoint or of a bare state_dict."""
    if not isinstance(loaded, Mapping):
        raise _refusal(path, f"a {type(loaded).__name__} without names", "save the network's state_dict()")
    for place in _WITHIN:
        if isinstance(loaded.get(place), Mapping):
            return _tensors(path, loaded[place])
    state = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        there = ", ".join(map(str, [*loaded][:8])) or "nothing"
        raise _refusal(path, f"no named tensors, but {there}", "save the network's state_dict()")
    return state


def _build(
    path: Path, settings: Source | Target, image_size: int, named: Mapping[str, Tensor], about: Mapping[str, Any]
) -> Backbone:
    """Returns the network that is asked for, with the tensors under its own names."""
    state: dict[str, Tensor] = {}
    for name, tensor in named.items():
        if tensor.is_meta:
            raise _refusal(path, f"{name} on the meta device, without numbers", "save the network after it was filled")
        if tensor.layout is not torch.strided:
            raise _refusal(path, f"{name} as a sparse tensor ({tensor.layout})", "save it dense: tensor.to_dense()")
        own = _our_name(_INSIDE.sub("", _WRAPPERS.sub("", name)))
        if own in state:
            raise _refusal(path, f"two networks, with {own} in each", "save the state_dict() of one")
        state[own] = tensor
    if has_places(settings.arch):
        official = {name.removeprefix("body."): tensor for name, tensor in state.items()}
        state = under_own_names(settings.arch, image_size, official)
    head = state.get("fc.weight")
    n_classes = len(head) if head is not None and head.dim() == 2 else 0
    network = build(settings.arch, settings.width, n_classes or 1, image_size, settings.levels)
    own_shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name, tensor in state.items():
        is_float = tensor.is_floating_point() and tensor.dtype.itemsize > 1  # of one byte: scales are elsewhere
        if name in own_shapes and not name.endswith(_COUNTER) and not is_float:
            raise _refusal(path, f"{name} as {tensor.dtype}", "save it dequantized, as float32 or bfloat16")
    read = state
    if any(_WRAPPERS.match(name) for name in named):  # beside a network in a wrapper lie a loss or a number of averages
        parts = {_part(name) for name in own_shapes}
        read = {name: tensor for name, tensor in state.items() if _part(name) in parts}
        inner = tuple(f".{name.removeprefix('body.')}" for name in own_shapes)
        if another := next((name for name in state if name not in read and name.endswith(inner)), None):
            found = f"two networks, one with {another.removeprefix('body.')}"
            raise _refusal(path, found, "save the state_dict() of one")
    try:
        network.load_state_dict(read)
    except RuntimeError as error:
        asked = _described(settings.arch, settings.width)
        held = _recognise(named) or (_described(about["arch"], about.get("width")) if "arch" in about else asked)
        if held == asked:
            held = _differences(read, own_shapes).replace(" body.", " ")
        raise InputError(
            f"{path}: {type(settings).__name__.lower()} must match the weights, which are {held}; got {asked}"
        ) from error
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            what = f"{name.removeprefix('body.')} with NaN or infinite numbers"
            raise _refusal(path, what, "name weights from before they diverged")
        if name.endswith("running_var") and (tensor < 0).any():
            raise _refusal(path, f"{name.removeprefix('body.')} with negative variances", _AGAIN)
    return network


def _classes(path: Path, named: Any, n_outputs: int) -> tuple[str, ...] | None:
    if not (isinstance(named, list | tuple) and named and all(isinstance(name, str) for name in named)):
        return None
    if len(named) != n_outputs:
        found = f"{len(named)} names in `classes` for {n_outputs} outputs"
        raise _refusal(path, found, "name every output, in their order, or save it without `classes`")
    return tuple(map(composed, named))


def _described(arch: str, width: float | None) -> str:
    return arch if has_places(arch) else f"{arch}, width {width}"


def _recognise(named: Mapping[str, Tensor]) -> str | None:
    """Returns architecture and width of the largest network whose names and shapes are all there."""
    state = {_our_name(_INSIDE.sub("", _WRAPPERS.sub("", name))): tensor for name, tensor in named.items()}
    found, most = None, 0
    for arch in (*SIZES, *ZOO):
        shapes = official_shapes(arch) if arch in ZOO else None
        if shapes is None:
            with torch.device("meta"):  # allocates nothing
                network = build(arch, 1.0, 1)
            shapes = {name: p.shape for name, p in network.named_parameters()}
        if len(shapes) <= most or not shapes.keys() <= state.keys():
            continue
        if arch in SIZES and state["fc.weight"].dim() == 2:
            found, most = _described(arch, state["fc.weight"].shape[1] / network.fc.in_features), len(shapes)
        elif arch in ZOO and all(state[name].shape == shape for name, shape in shapes.items()):
            found, most = arch, len(shapes)
    return found


def _differences(state: Mapping[str, Tensor], own_shapes: Mapping[str, torch.Size]) -> str:
    """Returns how tensors differ from those of the network that is asked for."""
    lacking = [name for name in own_shapes if name not in state and not name.endswith(_COUNTER)]
    others = [name for name in state if name not in own_shapes]
    unlike = [name for name in state if name in own_shapes and state[name].shape != own_shapes[name]]
    told = [f"without {', '.join(lacking[:2])}"] if lacking else []
    told += [f"with {', '.join(others[:2])}"] if others else []
    told += [f"with {unlike[0]} of {list(state[unlike[0]].shape)}"] if unlike else []
    return f"of another network, {' and '.join(told)}"


def _part(name: str) -> str:
    """Returns the part of the network that a tensor belongs to, by its own name."""
    return name.removeprefix("body.").partition(".")[0]


def _refusal(path: Path, found: str, remedy: str) -> InputError:
    return InputError(f"{path}: is not a readable file of weights, got {found}; {remedy}")


def _our_name(published: str) -> str:
    for pattern, replacement in _PUBLISHED:
        published = pattern.sub(replacement, published)
    return published
