"""Integrated Gradients (Sundararajan et al. 2017, arXiv:1703.01365): which parts of a log-mel speak for a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pannslib.errors import ModelError
from pannslib.features import POWER_FLOOR
from pannslib.models.imagenet import INSTALL

TOLERANCE = 0.02  # of the change of the output
STEPS = 24  # gradients of a part of the way from silence to the clip
MOST_PARTS = 200


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

    The way from silence to the clip is halved where the attributions are furthest off, until completeness holds: until
    their sum is the change of the logit from silence to the clip, within ``tolerance`` of that change. Networks bend
    so sharply near silence that equal steps are not enough.

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

    def point(share: float) -> torch.Tensor:
        return silence + share * (log_mel - silence)

    def stretch(start: float, end: float) -> tuple:
        """The attributions of a part of the way, and how far they are off: (error, start, end, values, change)."""
        with torch.no_grad():
            change = float(logit(point(end)) - logit(point(start)))
        values = explainer.attribute(point(end), point(start), n_steps=STEPS)[0].detach().double().cpu().numpy()
        return abs(float(values.sum()) - change), start, end, values, change

    training, explainer = model.training, IntegratedGradients(logit)
    model.eval()
    try:
        parts = [stretch(0.0, 1.0)]
        while True:
            values, change = sum(part[3] for part in parts), sum(part[4] for part in parts)
            found = Attribution(values.astype(np.float32), change, STEPS * len(parts))
            if found.error <= tolerance:
                return found
            if len(parts) >= MOST_PARTS:
                break
            # a bend of the logit is looked at more closely where it is
            _, start, end, _, _ = parts.pop(int(np.argmax([part[0] for part in parts])))
            middle = (start + end) / 2
            parts += [stretch(start, middle), stretch(middle, end)]
    finally:
        model.train(training)
    raise ModelError(
        f"The attributions of class {target} add up to {found.values.sum():.4g}, but the logit changes by "
        f"{change:.4g}: {found.error:.1%} off after {found.steps} steps. Allow a larger tolerance."
    )
