"""What all architectures have in common: their settings, what goes in, what comes out, and the usual classifier."""

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from pannslib.errors import ModelError
from pannslib.features import FrontEnd, check_finite, check_waveform


class Output(NamedTuple):
    """What a model gives for a batch of clips, all of it float32.

    Attributes:
        clipwise_output: (batch, classes), probabilities in [0, 1].
        logits: (batch, classes); clipwise_output is their sigmoid.
        embedding: (batch, embedding_size), not negative.
        framewise_output: (batch, frames, classes) in [0, 1] of the DecisionLevel models, else None.
    """

    clipwise_output: Tensor
    logits: Tensor
    embedding: Tensor
    framewise_output: Tensor | None = None


def output_of(logits: Tensor, embedding: Tensor, framewise_output: Tensor | None = None) -> Output:
    """Put an output together in float32, also where the network computed in a shorter type."""
    logits = logits.float()
    return Output(logits.sigmoid(), logits, embedding.float(), framewise_output)


@dataclass(frozen=True)
class Settings:
    """What can be chosen of a model; ``method`` is how its STFT is computed (see `features.LogMel`)."""

    name: str
    classes: int
    width: float
    front_end: FrontEnd
    method: str = "fft"

    def channels(self, published: int) -> int:
        """The published number of channels times ``width``, rounded.

        Raises:
            ModelError: no channel would be left.
        """
        channels = int(published * self.width + 0.5)
        if channels < 1:
            raise ModelError(
                f"{self.name}: width {self.width:g} leaves none of {published} channels; "
                f"{0.5 / published:.3g} is the least that leaves one."
            )
        return channels


class PannsModel(nn.Module):
    """The base of all architectures; call one as ``model(waveform)``, or ``model(log_mel=...)``.

    Attributes:
        name, classes, width, front_end, sample_rate (Hz): as it was created.
        embedding_size: how long an embedding is.
        takes_log_mel: whether a log-mel can take the waveform's place (where the network sees nothing else).
        classifies_frames: whether there is a framewise output.
        unused_parameters: beginnings of the names of parameters that the published network has but doesn't use.
    """

    takes_log_mel = False
    classifies_frames = False
    unused_parameters: tuple[str, ...] = ()
    classifier = "fc_audioset"
    pooled_dropout = 0.5  # before the embedding layer
    dropout_factor = 1.0  # on all rates

    def __init__(self, settings: Settings):
        super().__init__()
        self.name = settings.name
        self.classes = settings.classes
        self.width = settings.width
        self.front_end = settings.front_end
        self.sample_rate = settings.front_end.sample_rate

    @property
    def head_names(self) -> list[str]:
        """The state dict's names of the final classifier, whose sizes go with the number of classes."""
        return [name for name in self.state_dict() if self.is_head(name)]

    def is_head(self, name: str) -> bool:
        """Whether an entry of a state dict is the final classifier's."""
        return name.startswith(self.classifier + ".")

    def converted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict with the model's own names; those of a file that another library wrote may differ."""
        return weights

    @property
    def least_samples(self) -> int:
        """The shortest clip that the network can take, samples."""
        raise NotImplementedError

    def forward(
        self,
        waveform: Tensor | None = None,
        mixup_lambda: Tensor | None = None,
        *,
        log_mel: Tensor | None = None,
    ) -> Output:
        """Tag a batch of clips.

        Args:
            waveform: float32 (batch, samples) in [-1, 1] at ``sample_rate``.
            mixup_lambda: (batch,), see `features.mixup`; half as many clips come out. Like dropout and SpecAugment
                it has an effect in training mode alone.
            log_mel: float32 (batch, 1, frames, mel_bins) from ``model.log_mel(waveform)``, instead of ``waveform``.

        Raises:
            ModelError: an input that the model can't take; it says what is needed.
        """
        mixup_lambda = mixup_lambda if self.training else None
        if (waveform is None) == (log_mel is None):
            raise ModelError(f"{self.name} takes a waveform or a log_mel, one of the two.")
        if waveform is not None:
            check_waveform(waveform, self.least_samples, self.sample_rate)
            check_finite(waveform)
            return self.from_waveform(waveform, mixup_lambda)
        if not self.takes_log_mel:
            raise ModelError(f"{self.name} sees more than a log-mel spectrogram; give it the waveform.")
        return self.from_log_mel(log_mel, mixup_lambda)

    def from_waveform(self, waveform: Tensor, mixup_lambda: Tensor | None) -> Output:
        """Compute the output of a checked waveform (batch, samples)."""
        raise NotImplementedError

    def check_bins(self, least: int) -> None:
        """Raise `ModelError` if there are fewer mel bins than the network's poolings need."""
        if self.front_end.mel_bins < least:
            raise ModelError(
                f"{self.name} halves the mel bins {least.bit_length() - 1} times, so that it needs {least} at "
                f"least; the front end has {self.front_end.mel_bins}."
            )

    def add_classifier(self, channels: int, embedding_size: int) -> None:
        """Add the last two layers of Tables I to III: embedding and classes."""
        self.embedding_size = embedding_size
        self.fc1 = nn.Linear(channels, embedding_size)
        self.fc_audioset = nn.Linear(embedding_size, self.classes)

    def classify(self, x: Tensor) -> Output:
        """Pool (batch, channels, steps) over the clip, maximum plus mean (section II-A), and classify it."""
        x = x.max(dim=2).values + x.mean(dim=2)  # (batch, channels)
        x = self.dropout(x, self.pooled_dropout)
        x = F.relu_(self.fc1(x))  # (batch, embedding_size)
        # as published: the classifier sees the embedding before its dropout (ERRATA, row 30)
        return output_of(self.fc_audioset(x), embedding=self.dropout(x, 0.5))

    def scale_dropout(self, factor: float) -> "PannsModel":
        """Multiply all published rates of dropout by ``factor``, in [0, 1]; returns the model itself.

        Made for 64 channels and more, they take too much from networks of some few channels and some hundred steps.
        """
        for module in self.modules():
            if hasattr(module, "dropout_factor"):
                module.dropout_factor = factor
        return self

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """Set values to 0 at the given rate times ``dropout_factor``, in training mode alone."""
        return F.dropout(x, rate * self.dropout_factor, self.training)
