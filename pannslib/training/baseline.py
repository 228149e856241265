"""What the networks are set against: a linear classifier on the mean log-mel of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pannslib import metrics, models
from pannslib.catalogue import PRETRAINING, Plan
from pannslib.datasets.audioset import read_black_list
from pannslib.training import devices, loop
from pannslib.training.runs import training_rows
from pannslib.training.sources import ClipSource

STEPS = 300  # of L-BFGS at most; it converges before
DECAY = 1e-5  # of the weights, so that classes that can be told apart don't grow without bound


@dataclass(frozen=True)
class Baseline:
    """A linear classifier's scores on the evaluation clips.

    Attributes:
        scores: logits float32 (clips, classes).
        targets: bool, the same shape.
        map, mauc, d_prime: of them.
    """

    scores: np.ndarray
    targets: np.ndarray
    map: float
    mauc: float
    d_prime: float


def linear_baseline(plan: Plan) -> Baseline:
    """Logistic regression from the mean over time of each mel bin to the classes.

    It learns from the clips that the base run learns from, scaled by their statistics, until it converges.
    """
    settings = plan.settings(PRETRAINING)
    packed = plan.packed("audioset")
    fabric = devices.make_fabric(settings, plan.seed("linear"))
    network = models.create_model("Cnn14", classes=len(packed.classes), width=0.125).to(fabric.device)
    features = ClipSource(packed, network, float("inf"), fabric.device).mean_log_mels()
    black_list = read_black_list(plan.dataset("audioset").root)
    training = training_rows(packed, settings, plan.seed("audioset", "share"), black_list)
    evaluation = np.flatnonzero(packed.splits == "eval")
    mean, deviation = features[training].mean(0), features[training].std(0)
    inputs = torch.from_numpy((features - mean) / np.maximum(deviation, 1e-6)).float().to(fabric.device)
    targets = torch.from_numpy(packed.targets.astype(np.float32)).to(fabric.device)
    layer = torch.nn.Linear(inputs.shape[1], targets.shape[1]).to(fabric.device)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loop.tagging_loss(layer(inputs[training]), targets[training]) + DECAY * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        scores = layer(inputs[evaluation]).cpu().numpy()
    measured = metrics.evaluate(packed.targets[evaluation], scores)
    return Baseline(scores, packed.targets[evaluation], *(float(measured[key]) for key in ("map", "mauc", "d_prime")))
