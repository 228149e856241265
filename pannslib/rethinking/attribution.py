"""Integrated Gradients (Sundararajan et al. 2017, arXiv:1703.01365): which parts of a log-mel speak for a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pannslib.errors import ModelError
from pannslib.features import POWER_FLOOR
from pannslib.models.imagenet import INSTALL

TOLERANCE = 0.02  # of the change of the output
STEPS = (32, 64, 128, 256, 512, 1024, 2048)
AT_ONCE = 32  # steps that are computed together


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each value of a clip's log-mel adds to the logit of a class, against silence.

    Attributes:
        values: float32 (spectrograms, frames, mel_bins), in units of the logit.
        change: the logit of the clip minus that of silence.
        steps: how many gradients were averaged.
    """

    values: np.ndarray
    change: float
    steps: int

    @property
    def image(self) -> np.ndarray:
        """Over all spectrograms: (frames, mel_bins)."""
        return self.values.sum(0)

    @property
    def error(self) -> float:
        """How far the sum of the values is from ``change``, as a share of it: completeness would make it 0."""
        return abs(float(self.values.sum(dtype=np.float64)) - self.change) / max(abs(self.change), 1e-12)


def integrated_gradients(model, log_mel: torch.Tensor, target: int, tolerance: float = TOLERANCE) -> Attribution:
    """Attribute the logit of a class to the values of a clip's log-mel; the baseline is digital silence, -100 dB.

    The number of steps is doubled until completeness holds: until the sum of the attributions is the change of the
    logit from silence to the clip, within ``tolerance`` of that change.

    Args:
        model: takes ``log_mel=``; its mode is as before afterwards.
        log_mel: (1, spectrograms, frames, mel_bins) of ``model.log_mel(waveform)``.
        target: index of the class.
        tolerance: above 0.

    Raises:
        ModelError: captum isn't installed, no such class, more than one clip, or completeness isn't reached.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as fault:
        raise ModelError(f"Integrated Gradients need captum, which isn't installed: {INSTALL}.") from fault
    if log_mel.ndim != 4 or len(log_mel) != 1:
        raise ModelError(f"The log-mel is {tuple(log_mel.shape)}; (1, spectrograms, frames, mel_bins) is needed.")
    if not 0 <= target < model.classes:
        raise ModelError(f"target is {target}; {model.name} has the classes 0 to {model.classes - 1}.")
    log_mel = log_mel.detach().float()
    silence = torch.full_like(log_mel, 10 * float(np.log10(POWER_FLOOR)))

    def logit(inputs: torch.Tensor) -> torch.Tensor:
        return model(log_mel=inputs).logits[:, target]

    training, explainer = model.training, IntegratedGradients(logit)
    model.eval()
    try:
        with torch.no_grad():
            change = float(logit(log_mel) - logit(silence))
        for steps in STEPS:
            values = explainer.attribute(log_mel, silence, n_steps=steps, internal_batch_size=AT_ONCE)
            found = Attribution(values[0].detach().float().cpu().numpy(), change, steps)
            if found.error <= tolerance:
                return found
    finally:
        model.train(training)
    raise ModelError(
        f"The attributions of class {target} add up to {found.values.sum():.4g}, but the logit changes by "
        f"{change:.4g}: {found.error:.1%} off after {steps} steps. Allow a larger tolerance."
    )
