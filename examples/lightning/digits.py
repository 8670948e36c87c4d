"""A trainer of one's own: a Lightning module on scikit-learn's digits, with learning curves and checkpoints."""

import io
from dataclasses import dataclass

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from l2t_ray import Context


@dataclass
class Settings:
    """What the sweep file may say below `settings:`."""

    optimizer: str
    lr: float = 0.01
    width: int = 32
    epochs: int = 5


class Network(lightning.LightningModule):
    """A perceptron with one hidden layer."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.Sequential(nn.Linear(64, settings.width), nn.ReLU(), nn.Linear(settings.width, 10))

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Cross-entropy of a batch."""
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer by its name in torch."""
        return getattr(torch.optim, self.settings.optimizer)(self.parameters(), lr=self.settings.lr)


class Reports(Callback):
    """Tells l2t-ray of every epoch, and gives it a state to go on from."""

    def __init__(self, context: Context, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.context, self.images, self.labels = context, images, labels

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Network) -> None:
        """Logs the test error and offers a checkpoint."""
        self.context.log(trainer.current_epoch + 1, error_percent=error_percent(module, self.images, self.labels))
        self.context.checkpoint(lambda: state(trainer))


def state(trainer: lightning.Trainer) -> bytes:
    """Lightning's own checkpoint, as bytes."""
    buffer = io.BytesIO()
    torch.save(trainer._checkpoint_connector.dump_checkpoint(), buffer)
    return buffer.getvalue()


@torch.no_grad()
def error_percent(module: Network, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of test images that are classified wrongly."""
    guesses = module.layers(images.to(module.device)).argmax(1).cpu()
    return 100 * float((guesses != labels).float().mean())


def train(settings: Settings, seed: int, context: Context) -> dict[str, float]:
    """Trains on 200 random digits; all others are the test set."""
    lightning.seed_everything(seed, verbose=False)
    images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    images, order = images.float() / 16, torch.randperm(len(labels))
    chosen, rest = order[:200], order[200:]
    loader = DataLoader(TensorDataset(images[chosen], labels[chosen]), batch_size=20, shuffle=True)
    module = Network(settings)
    saved = context.restore()
    path = None
    if saved is not None:
        path = context.folder / "state.ckpt"
        path.write_bytes(saved)
    trainer = lightning.Trainer(
        accelerator="gpu" if context.device.startswith("cuda") else "cpu",
        devices=1,
        max_epochs=settings.epochs,
        default_root_dir=context.folder,
        callbacks=[Reports(context, images[rest], labels[rest])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader, ckpt_path=path)
    return {"error_percent": error_percent(module, images[rest], labels[rest])}
