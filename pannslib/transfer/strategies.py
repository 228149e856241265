"""The four strategies of section V, and the layers that are trained on a frozen embedding."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from pannslib import features


@dataclass(frozen=True)
class Strategy:
    """One row of the paper's transfer tables."""

    title: str
    pretrained: bool  # start from the weights that AudioSet tagging left
    layers: int | None  # fully connected layers on the frozen embedding; None: the whole network is trained

    @property
    def frozen(self) -> bool:
        """Whether the pretrained network only turns clips into embeddings."""
        return self.layers is not None


# in the paper's order, with the names of the reference tables
STRATEGIES = {
    "scratch": Strategy("From scratch", pretrained=False, layers=None),
    "fine_tune": Strategy("Fine-tune", pretrained=True, layers=None),
    "freeze_l1": Strategy("Freeze, one layer", pretrained=True, layers=1),
    "freeze_l3": Strategy("Freeze, three layers", pretrained=True, layers=3),
}


class Classifier(torch.nn.Sequential):
    """Layers on frozen embeddings (batch, embedding size); in training they can be mixed as log-mels are."""

    def forward(self, input: torch.Tensor, mixup_lambda: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (batch, classes), or half as many rows where ``mixup_lambda`` (batch,) is given in training."""
        if mixup_lambda is not None and self.training:
            input = features.mixup(input, mixup_lambda)
        return super().forward(input)


def classifier(inputs: int, classes: int, layers: int) -> Classifier:
    """``layers`` fully connected layers, as wide as the embedding, with ReLU between them."""
    widths = [inputs] * layers + [classes]
    modules: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(widths):
        modules += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return Classifier(*modules[:-1])


@dataclass(frozen=True)
class Scale:
    """What makes embeddings of mean 0 and deviation about 1: (embedding size,) each, from training clips alone.

    The layer that follows is affine, so this changes what it can learn in nothing but speed. A feature that is
    (nearly) the same in all training clips says nothing, and dividing by its deviation would make it the loudest
    in a test clip: no deviation counts for less than half of the mean one.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray) -> "Scale":
        """The scale of the training clips' embeddings, float32 (clips, embedding size)."""
        deviation = embeddings.std(0)
        return cls(embeddings.mean(0), np.maximum(deviation, max(0.5 * float(deviation.mean()), 1e-12)))

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Scaled embeddings, float32, of the shape that was given."""
        return ((embeddings - self.mean) / self.deviation).astype(np.float32)
