"""What a run starts from: parameters and statistics, drawn from its seed on the CPU."""

from typing import NamedTuple

from torch import Tensor

from l2t_ray.config import Run
from l2t_ray.data.streams import seed_torch, stream
from l2t_ray.methods import FeatureMatching, Method, Shapes, meta
from l2t_ray.methods.custom_loss import check_known, check_names
from l2t_ray.methods.matching import Matching
from l2t_ray.models import Backbone, TargetNetwork


class Start(NamedTuple):
    """The tensors of a run before its first step, by name, on the CPU."""

    theta: dict[str, Tensor]
    extra_names: list[str]  # those of theta that are the method's, not the network's
    statistics: dict[str, Tensor]
    phi: dict[str, Tensor]
    given: dict[str, Tensor]  # those of theta with which the method starts in the place of random ones


def draw_start(
    run: Run,
    method: Method,
    network: TargetNetwork,
    source: Backbone | None,
    shapes: Shapes,
    pairs: Matching | None,
) -> Start:
    """Draws a run's tensors.

    Args:
        run: its seed decides.
        method: it may start from others, and adds its own.
        network: the target.
        source: the frozen network, or None.
        shapes: of the maps of both.
        pairs: the matched levels, or None.

    Returns:
        What it starts from.

    Raises:
        InputError: if the method gives parameters the target's names, or starts what the target has not.
    """
    seed_torch(run.seed, "own.start")
    given, statistics = method.start(run, network, source)
    drawn = network.initial_theta(stream(run.seed, "init"))
    check_known(method, "start", given, drawn)
    of_network = {**drawn, **given}
    of_method = method.extra_parameters(run, shapes, stream(run.seed, "init.transfer"))
    check_names(method, of_network, of_method)
    phi: dict[str, Tensor] = {}
    if pairs is not None and isinstance(method, FeatureMatching) and method.networks:
        phi = meta.initial_phi(pairs, method.networks, shapes.source_sizes, stream(run.seed, "init.meta"))
    initial = network.initial_statistics(of_network["fc.bias"])
    check_known(method, "start", statistics, initial)
    return Start({**of_network, **of_method}, [*of_method], {**initial, **statistics}, phi, dict(given))
