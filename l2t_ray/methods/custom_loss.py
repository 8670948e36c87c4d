"""The checks of a method against a run and its source, and the gradients of a method's own loss."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from l2t_ray.config import Run
from l2t_ray.errors import InputError, suggest
from l2t_ray.methods import Batch, Method
from l2t_ray.models import Backbone

BODY = "body."  # before the names of other libraries' networks; a stage may name both kinds


def check(method: Method, run: Run, source: Backbone | None, classes: Sequence[str]) -> None:
    """Refuses a run's settings, or its source, where the method cannot train with them.

    Args:
        method: the run's.
        run: its settings.
        source: the network, or None where the method reads none.
        classes: the target's, by name; empty where they are not known yet.

    Raises:
        InputError: with a line for each problem.
    """
    problems = [f"{setting} {problem}" for setting, problem in method.laws(run)]
    if source is not None and (problem := method.refuse(run, source, classes)):
        problems.append(f"{run.source.weights or 'source.weights'}: source.weights {problem}")
    if problems:
        raise InputError(problems)


def check_names(method: Method, network: Iterable[str], extra: Iterable[str]) -> None:
    """Refuses a method's own parameters under names of the network's, which they would replace.

    Args:
        method: the run's.
        network: names of the target's parameters.
        extra: names of `extra_parameters`.

    Raises:
        InputError: if a name is in both.
    """
    if taken := sorted({*network} & {*extra}):
        rule = "extra_parameters must not have names of the target's own"
        raise InputError(f"{method.name}: {rule}, got {', '.join(taken)}; choose others")


def check_known(method: Method, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuses names that a method gives and nothing has, which would have no effect.

    Args:
        method: the run's.
        what: the function that gives them.
        given: the names.
        known: names that there are.

    Raises:
        InputError: with a line for each unknown name.
    """
    if unknown := sorted({*given} - {*known}):
        rule = f"{method.name}: {what} must give names that the run has"
        raise InputError([f"{rule}, got {name!r}; {suggest(name, [*known])}" for name in unknown])


def check_prefixes(method: Method, prefixes: Iterable[str], names: Iterable[str]) -> None:
    """Refuses rates of parameters that do not exist.

    Args:
        method: the run's.
        prefixes: of names, as in `Stage.rates`.
        names: of the parameters.

    Raises:
        InputError: if no name begins with one of the prefixes.
    """
    plain = [name.removeprefix(BODY) for name in names]
    for prefix in prefixes:
        if not any(name.startswith(prefix.removeprefix(BODY)) for name in plain):
            rule = f"{method.name}: rates of stage must be for the beginnings of parameters' names, got {prefix!r}"
            raise InputError(f"{rule}; {suggest(prefix, dict.fromkeys(name.partition('.')[0] for name in plain))}")


def check_scalar(method: Method, loss: object) -> None:
    """Refuses a loss that is no scalar tensor.

    Raises:
        InputError: if it is not.
    """
    if not isinstance(loss, Tensor) or loss.dim():
        shown = f"one of shape {[*loss.shape]}" if isinstance(loss, Tensor) else repr(loss)
        raise InputError(f"{method.name}: loss must return a scalar tensor or None, got {shown}; take its mean or sum")


def has_own_loss(method: Method) -> bool:
    """Whether a method overrides `loss`."""
    return type(method).loss is not Method.loss


def own_gradients(
    method: Method,
    run: Run,
    beta: Tensor,
    batch: Batch,
    extra: Mapping[str, Tensor],
    features: Sequence[Tensor],
    logits: Tensor,
) -> tuple[list[Tensor | None], Tensor | None, dict[str, Tensor]]:
    """Returns the gradients of beta times a method's loss.

    Args:
        method: one with a loss.
        run: its settings.
        beta: a scalar.
        batch: the batch, to which the target's features and logits are added here.
        extra: the method's trained parameters.
        features: T^n(x), [B, C_n, H, W].
        logits: [B, N].

    Returns:
        At features, at logits, and at the extra parameters by name; None or left out where the loss does not reach.

    Raises:
        InputError: if the loss depends on nothing that is trained, or changes what it is given in place.
    """
    with torch.enable_grad():
        leaves = [f.detach().requires_grad_() for f in features]
        logit_leaf = logits.detach().requires_grad_()
        own = {name: p.detach().requires_grad_() for name, p in extra.items()}
        seen = replace(batch, target=leaves, logits=logit_leaf)
        versions = [tensor._version for tensor in (*features, logits)]
        loss = method.loss(own, seen, {**method.options, **run.options})
        if loss is None:
            return [None] * len(features), None, {}
        check_scalar(method, loss)
        if not loss.requires_grad:
            rule = f"{method.name}: loss must depend on batch.target, batch.logits or extra, got one that does not"
            raise InputError(f"{rule}; leave out detach(), or return None")
        if versions != [tensor._version for tensor in (*features, logits)]:  # the network's own gradients need them
            rule = f"{method.name}: loss must not change batch.target and batch.logits in place, got changed ones"
            raise InputError(f"{rule}; write x = x - y for x.sub_(y), or change a clone()")
        gradients = torch.autograd.grad(beta * loss, [*leaves, logit_leaf, *own.values()], allow_unused=True)
    named = zip(own, gradients[len(leaves) + 1 :], strict=True)
    by_name = {name: gradient for name, gradient in named if gradient is not None}
    return list(gradients[: len(leaves)]), gradients[len(leaves)], by_name


def with_penalty(
    method: Method,
    run: Run,
    theta: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Returns a step's gradients with that of the method's penalty.

    Args:
        method: one with a penalty.
        run: its settings.
        theta: the parameters.
        start: those that the method started the run with.
        gradients: of the losses, by name.

    Raises:
        InputError: if the penalty changes what it is given in place, or names what the run has not.
    """
    given = [*theta.values(), *start.values()]
    versions = [tensor._version for tensor in given]
    added = method.penalty(theta, start, {**method.options, **run.options})
    if versions != [tensor._version for tensor in given]:
        rule = f"{method.name}: penalty must not change theta and start in place, got changed ones"
        raise InputError(f"{rule}; write x - y for x.sub_(y)")
    check_known(method, "penalty", added, theta)
    sums = {name: gradients[name] + own if name in gradients else own for name, own in added.items()}
    return {**gradients, **sums}
