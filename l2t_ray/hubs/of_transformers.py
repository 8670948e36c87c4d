"""Image classifiers of Hugging Face's transformers by repository and commit, `hf/USER/NAME@COMMIT`.

A repository's `config.json` says what its network is, so it is read before anything is planned. The commit makes the
name mean the same network for ever.
"""

import inspect
import json
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from l2t_ray.errors import InputError
from l2t_ray.hubs.hub import PRETRAINED, File, Hub, Known, spread

PREFIX = "hf/"
WEIGHTS, CONFIG, PREPROCESSING = "model.safetensors", "config.json", "preprocessor_config.json"
CLASSIFIER = "ForImageClassification"
LEAST_STAGES = 3  # in a list of modules whose outputs are levels
COUNTER = "num_batches_tracked"
TIMEOUT_S = 5.0
NO_ANSWER = "no answer"


class Transformers(Hub):
    """Hugging Face's transformers; its graphs depend on values, so levels are the outputs of modules."""

    prefix: ClassVar[str] = PREFIX
    pattern: ClassVar[str] = r"hf/[\w.-]+/[\w.-]+(@[0-9a-f]{40})?"
    form: ClassVar[str] = "hf/USER/NAME@COMMIT"
    library: ClassVar[str] = "the Hugging Face hub"
    is_traced: ClassVar[bool] = False

    def problem(self, arch: str) -> str | None:
        """Returns what is wrong with `hf/USER/NAME@COMMIT`, after the setting's name; None where nothing is."""
        try:
            _transformers()
            repository, commit = _parts(arch)
            if not commit:
                newest = _asked(repository, None)[0]
                told = f"its newest is {PREFIX}{repository}@{newest}" if newest else "its page lists them"
                return f"must name a commit of the repository, {self.form}, got {arch!r}; {told}"
            if not self.known(arch).is_linear:
                rule = "must be a network whose classifier is one linear layer"
                return f"{rule}, got {arch!r} with {self.known(arch).head or 'none'}; take another network"
        except InputError as error:
            return error.problems[0].removeprefix("arch ")
        return None

    def known(self, arch: str) -> Known:
        """Returns what is known of a network; allocates nothing."""
        return _known(arch)

    def make(self, arch: str, n_classes: int, image_size: int) -> Any:
        """Returns a classifier that takes images alone and returns logits.

        Its position embeddings are interpolated where the images have another size than its own.
        """
        config = _config(arch)
        config.num_labels = n_classes
        network = _transformers().AutoModelForImageClassification.from_config(config, attn_implementation="eager")
        kind = type(network)
        can_fit = "interpolate_pos_encoding" in inspect.signature(kind.forward).parameters
        more = {"interpolate_pos_encoding": True} if can_fit and config.image_size != image_size else {}

        def forward(self: Any, x: Any) -> Any:
            return kind.forward(self, pixel_values=x, **more).logits

        network.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
        return network

    def weights_of(self, arch: str) -> Mapping[str, File]:
        """Returns the repository's weights."""
        repository, commit = _parts(arch)
        licence = "its page has the licence"
        return {PRETRAINED: File(repository, WEIGHTS, licence, commit)} if self.problem(arch) is None else {}

    def tag_of(self, arch: str, weights: str | None) -> str | None:
        """Returns the tag that `weights` means, or None where it is no tag of this network."""
        return weights if weights in self.weights_of(arch) else None

    def read(self, path: Path, arch: str, tag: str, image_size: int) -> dict[str, Any]:
        """Returns the tensors of a repository's weights, under the names of the transformers that is installed."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        config = _config(arch)
        kind = _transformers().AutoModelForImageClassification
        rule, remedy = f"{path}: must be all weights of {arch}", "remove it, and launch again, or take another network"
        try:
            network, found = type(kind.from_config(config)).from_pretrained(
                None, config=config, state_dict=load_file(path), output_loading_info=True
            )
        except (SafetensorError, OSError, RuntimeError) as error:
            raise InputError(f"{rule}, got another network, or no file of weights; {remedy}") from error
        if lacking := sorted(name for name in found["missing_keys"] if not name.endswith(COUNTER)):
            raise InputError(f"{rule}, got none for {', '.join(lacking[:2])}; {remedy}")
        return dict(network.state_dict())


def _transformers() -> Any:
    """Returns transformers.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        rule = f"arch must be a network that is installed, for {PREFIX}... needs the package transformers"
        raise InputError(f"{rule}, got no module {error.name!r}; pip install 'l2t-ray[transformers]'") from error
    transformers.logging.set_verbosity_error()
    return transformers


def _parts(arch: str) -> tuple[str, str]:
    """Returns repository and commit."""
    repository, _, commit = arch.removeprefix(PREFIX).partition("@")
    return repository, commit


@lru_cache(maxsize=64)
def _ask(repository: str, commit: str | None, minute: int) -> tuple[str, str]:
    """Asks the hub for a repository, once and shortly, for its client tries a download again and again.

    Returns:
        The commit, and an empty text; or an empty text, and what went wrong.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(HfApi().model_info(repository, revision=commit, timeout=TIMEOUT_S).sha), ""
    except HfHubHTTPError as error:
        return "", type(error).__name__
    except Exception:  # the hub's client has changed its library of HTTP, whose errors have no common class
        return "", NO_ANSWER


def _asked(repository: str, commit: str | None) -> tuple[str, str]:
    return _ask(repository, commit, int(time.monotonic()) // 60)  # after a minute again


def _read_json(arch: str, name: str) -> dict[str, Any] | None:
    """Returns one of a repository's small files, from the cache if it is there; None if the repository has none."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    repository, commit = _parts(arch)
    unreachable = (
        f"arch must be a network whose {name} can be fetched, got no answer for {arch!r}; "
        "connect this machine once, and the file stays in its cache"
    )
    if try_to_load_from_cache(repository, name, revision=commit) is None:  # a text, or that the repository has none
        problem = _asked(repository, commit)[1]
        if problem == NO_ANSWER:
            raise InputError(unreachable)
        if problem:
            rule = f"arch must be a public repository of the Hugging Face hub, got {arch!r}: {problem}"
            raise InputError(f"{rule}; correct the name or the commit")
    try:
        found = json.loads(Path(hf_hub_download(repository, name, revision=commit)).read_bytes())
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise InputError(unreachable) from error
        return None
    except (HfHubHTTPError, OSError) as error:
        raise InputError(unreachable) from error
    except ValueError as error:
        raise InputError(f"arch must be a network whose {name} is JSON, got {arch!r}; take another network") from error
    return found if isinstance(found, dict) else None


def _config(arch: str) -> Any:
    """Returns a fresh configuration of a repository's classifier, whose dropout and stochastic depth are off."""
    given = _read_json(arch, CONFIG) or {}
    kinds = given.get("architectures") or [""]
    if not str(kinds[0]).endswith(CLASSIFIER) or not hasattr(_transformers(), kinds[0]):
        rule = f"arch must be an image classifier of transformers {_transformers().__version__}"
        raise InputError(f"{rule}, got {arch!r} of {kinds[0] or 'no architecture'}; take another network")
    config = getattr(_transformers(), kinds[0]).config_class.from_dict(given)
    for name, value in vars(config).items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    return config


@lru_cache(maxsize=64)
def _known(arch: str) -> Known:
    import torch

    config = _config(arch)
    with torch.device("meta"):
        network = _transformers().AutoModelForImageClassification.from_config(config, attn_implementation="eager")
    places = list[str]()
    for name, part in network.named_modules():
        if isinstance(part, torch.nn.ModuleList) and len(part) >= LEAST_STAGES:
            places = [f"{name}.{n}" for n in range(len(part))]
            break
    head, last = [(name, part) for name, part in network.named_modules() if not [*part.children()]][-1]
    is_linear = isinstance(last, torch.nn.Linear) and last.out_features == config.num_labels
    n_bytes = sum(p.numel() * 4 for p in network.parameters())
    given = _read_json(arch, PREPROCESSING) or {}
    mean, std = (tuple(given.get(name) or ()) for name in ("image_mean", "image_std"))
    return Known(spread(places), n_bytes, head, is_linear, (mean, std) if len(mean) == len(std) == 3 else None)
