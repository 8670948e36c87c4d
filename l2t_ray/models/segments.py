"""A network of another library, cut into segments that run one after another, with the maps of its levels.

The graph is that of `torchvision.models.feature_extraction`. It is cut where one tensor alone is handed on, so that a
segment can be computed again from that tensor (`models.recomputed`).
"""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from l2t_ray.errors import InputError, suggest

Found = tuple[Tensor, list[Tensor]]  # what is handed on, and the maps of the levels within
Part = tuple[fx.Node, list[fx.Node]]  # the node that is handed to it, and its own
LAST = "the outputs"  # of the whole network
SHOWN_DEPTH = 3  # of modules that are offered as levels


@dataclass(frozen=True)
class Segment:
    """A part of a network, as a function of the whole network's module and of what the part before hands on."""

    function: Callable[[nn.Module, Tensor], Found]
    n_levels: int  # levels within
    modules: tuple[str, ...]  # modules and parameters of the network that it reads


@dataclass(frozen=True)
class Plan:
    """A network's segments, and its levels' shapes."""

    segments: tuple[Segment, ...]
    channels: tuple[int, ...]  # of every level's maps
    sizes: tuple[int, ...]  # H = W of every level's maps


def node_names(network: nn.Module) -> list[str]:
    """Returns the names of the places where maps can be taken."""
    names: list[str] = get_graph_node_names(network.eval(), opaque(network), suppress_diff_warning=True)[1]
    return names


def opaque(network: nn.Module) -> dict[str, Any]:
    """Returns what a graph must not look into: the modules and functions that timm registers for its networks."""
    if not type(network).__module__.startswith("timm."):
        return {}
    layers = importlib.import_module("timm.layers")
    return {"leaf_modules": layers.get_notrace_modules(), "autowrap_functions": layers.get_notrace_functions()}


def make_plan(name: str, network: nn.Module, levels: Sequence[str], image_size: int) -> Plan:
    """Returns a network's segments.

    Args:
        name: of the network, for messages.
        network: on the meta device; its outputs are what the classifier takes.
        levels: names of nodes, or of modules, whose last node is meant; from the images' end to the outputs'.
        image_size: H = W of the images.

    Raises:
        InputError: if a level does not exist, has no maps, or lies before the one that is named before it.
    """
    try:
        names = node_names(network)
    except fx.proxy.TraceError as error:
        rule = "arch must be a network whose graph does not depend on its values"
        raise InputError(f"{rule}, got {name}: {str(error).splitlines()[0]}; take another network") from error
    for level in levels:
        if not any(node == level or node.startswith(f"{level}.") for node in names):
            modules = _modules(names)
            remedy = suggest(level, dict.fromkeys([*modules, *names]), listed=modules)
            raise InputError(f"levels must name places of {name}, got {level!r}; {remedy}")
    wanted = {**{level: level for level in levels}, names[-1]: LAST}
    graph = (
        create_feature_extractor(network, wanted, tracer_kwargs=opaque(network), suppress_diff_warning=True)
        .eval()
        .graph
    )
    tracer = _Shapes(fx.GraphModule(network, graph))
    try:
        tracer.run(torch.empty(2, 3, image_size, image_size, device="meta"))
    except RuntimeError as error:
        rule = f"data.image_size must be large enough for {name}"
        raise InputError(f"{rule}, got {image_size}; take larger images or another network") from error
    *nodes, output = graph.nodes
    found = {names[-1]: output.args[0][LAST], **output.args[0]}
    places = [nodes.index(found[level]) for level in levels]
    if places != sorted(set(places)):
        rule = f"levels must be different places of {name} in order, from the images on"
        raise InputError(f"{rule}, got {', '.join(levels)}; correct the list")
    shapes = [_map_shape(name, level, found[level].meta["shape"] or ()) for level in levels]
    at_level = {found[level]: side for level, (_, side) in zip(levels, shapes, strict=True)}
    segments = tuple(_segment(network, part, given, at_level) for given, part in _cut(nodes, found[LAST]))
    return Plan(segments, tuple(n for n, _ in shapes), tuple(side for _, side in shapes))


def whole_plan(name: str, network: nn.Module, levels: Sequence[str], image_size: int) -> Plan:
    """Returns one segment: the network as it is, whose levels are what modules return.

    Args:
        name: of the network, for messages.
        network: on the meta device; its outputs are what the classifier takes.
        levels: names of modules, from the images' end to the outputs'.
        image_size: H = W of the images.

    Raises:
        InputError: if a level does not exist, has no maps, or lies before the one that is named before it.
    """
    modules = dict(network.eval().named_modules())
    for level in levels:
        if level not in modules:
            listed = [name for name in modules if name and name.count(".") < SHOWN_DEPTH]
            raise InputError(
                f"levels must name places of {name}, got {level!r}; {suggest(level, modules, listed=listed)}"
            )
    try:
        found = _returned(network, levels, torch.empty(2, 3, image_size, image_size, device="meta"))[1]
    except (RuntimeError, ValueError) as error:
        rule = f"data.image_size must suit {name}"
        raise InputError(f"{rule}, got {image_size}: {str(error).splitlines()[0]}; take another size") from error
    if [*found] != [*dict.fromkeys(levels)] or len(found) < len(levels):
        rule = f"levels must be different places of {name} in order, from the images on"
        raise InputError(f"{rule}, got {', '.join(levels)}; correct the list")
    shapes = [_map_shape(name, level, tuple(found[level].shape)) for level in levels]

    def function(network: nn.Module, x: Tensor) -> Found:
        outputs, maps = _returned(network, levels, x)
        return outputs, [as_map(maps[level], side) for level, (_, side) in zip(levels, shapes, strict=True)]

    read = tuple(name for name, _ in network.named_parameters())
    return Plan((Segment(function, len(levels), read),), tuple(n for n, _ in shapes), tuple(side for _, side in shapes))


def _returned(network: nn.Module, levels: Sequence[str], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns a network's outputs, and the first tensor that each module returns, in the order of their calls."""
    found: dict[str, Tensor] = {}

    def note(level: str, returned: Any) -> None:
        found[level] = returned if isinstance(returned, Tensor) else next(iter(returned))

    hooks = [
        network.get_submodule(level).register_forward_hook(lambda _, __, returned, level=level: note(level, returned))
        for level in levels
    ]
    try:
        return network(x), found
    finally:
        for hook in hooks:
            hook.remove()


def _modules(names: Sequence[str]) -> list[str]:
    """Returns the modules above nodes, whose last nodes are levels that people think of first."""
    return [*dict.fromkeys(".".join(name.split(".")[:depth]) for depth in (1, 2, 3) for name in names)]


class _Shapes(fx.Interpreter):
    """Notes the shape of every tensor that a graph computes, in `node.meta`."""

    def run_node(self, n: fx.Node) -> Any:
        """Returns what a node computes."""
        value = super().run_node(n)
        n.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else None
        return value


def _map_shape(name: str, level: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns channels and side of a level's maps."""
    if len(shape) == 4 and shape[2] == shape[3]:
        return shape[1], shape[2]
    if len(shape) == 3 and math.isqrt(shape[1]) > 1:  # tokens
        return shape[2], math.isqrt(shape[1])
    rule = f"levels must be places of {name} with square maps [B, C, H, H] or tokens [B, N, C]"
    raise InputError(f"{rule}, got {level!r} of [{', '.join(map(str, ('B', *shape[1:])))}]; name another place")


def as_map(x: Tensor, side: int) -> Tensor:
    """Returns maps [B, C, side, side] of maps, or of tokens [B, N, C], of which the last are the image's patches."""
    return x if x.dim() == 4 else x[:, x.shape[1] - side**2 :].mT.unflatten(2, (side, side))


def _cut(nodes: Sequence[fx.Node], last: fx.Node) -> list[Part]:
    """Returns the parts of a graph.

    Of several numbers of parts with about equal activations, the one is taken that needs the least memory: what all
    parts are given, and twice the activations of the largest (Chen et al. 2016, arXiv 1604.06174).
    """
    sizes = {node: math.prod(node.meta["shape"] or (0,)) for node in nodes}
    total = sum(sizes.values())
    numbers = range(1, 1 + sum(node.op == "call_module" for node in nodes))
    ways = [_parts(nodes, last, sizes, total / number) for number in numbers]

    def cost(parts: list[Part]) -> int:
        return sum(sizes[given] for given, _ in parts) + 2 * max(sum(sizes[n] for n in part) for _, part in parts)

    return min(ways, key=cost)


def _parts(nodes: Sequence[fx.Node], last: fx.Node, sizes: Mapping[fx.Node, int], least: float) -> list[Part]:
    """Returns parts of at least so many activations, but for the last; one tensor alone is handed from part to part."""
    places = {node: place for place, node in enumerate(nodes)}
    used_last = {node: max((places.get(user, -1) for user in node.users), default=-1) for node in nodes}
    used_last[last] = len(nodes)
    given, part, parts, live = nodes[0], list[fx.Node](), list[Part](), {nodes[0]}
    for place, node in enumerate(nodes[1:], 1):
        part.append(node)
        live = {other for other in (*live, node) if used_last[other] > place}
        if node is last or (live == {node} and sum(sizes[other] for other in part) >= least):
            parts.append((given, part))
            given, part = node, []
    assert not [node for node in part if node.users], "what lies behind the outputs is read by nobody"
    return parts


def _segment(network: nn.Module, part: Sequence[fx.Node], given: fx.Node, at_level: Mapping[fx.Node, int]) -> Segment:
    """Returns the function that computes some nodes of a network's graph."""
    own = fx.Graph()
    copies = {given: own.placeholder("x")}
    for node in part:
        copies[node] = own.node_copy(node, lambda other: copies[other])
    levels = [node for node in part if node in at_level]
    maps = [own.call_function(as_map, (copies[node], at_level[node])) for node in levels]
    own.output((copies[part[-1]], maps))
    function = type(fx.GraphModule(network, own)).forward
    read = tuple(str(node.target) for node in part if node.op in {"call_module", "get_attr"})
    return Segment(function, len(levels), read)
