"""A network of which some parts are trained, and the rest stays as it is, batch norm included."""

from collections.abc import Sequence

from torch import Tensor

from l2t_ray.models.backbone import Backbone
from l2t_ray.models.traced import Tensors, Traced


class Partly(Traced):
    """The passes of a network that trains some of its parameters.

    Batch norms outside the trained parts normalise by their running statistics, in training as well, and keep them.

    Args:
        module: the network; its own parameters are never read.
        trained: the beginnings of the trained parameters' names.
    """

    def __init__(self, module: Backbone, trained: Sequence[str]) -> None:
        self.trained = tuple(trained)
        super().__init__(module)
        for name, norm in self._norms.items():
            if not self.trains(f"{name}."):
                norm.eval()

    def trains(self, name: str) -> bool:
        """Whether a parameter gets a gradient."""
        return name.startswith(self.trained)

    def _running(self, statistics: Tensors) -> dict[str, Tensor]:
        """Returns the running statistics, which the norms outside the trained parts read."""
        return self._all_running(statistics)
