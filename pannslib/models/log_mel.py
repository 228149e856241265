"""Models that see a log-mel spectrogram: front end, normalisation, SpecAugment and mixup before the network."""

from torch import Tensor, nn

from pannslib.errors import ModelError
from pannslib.features import FrontEnd, LogMel, SpecAugment, check_finite, mixup
from pannslib.models.base import Output, PannsModel, Settings


class LogMelInput(PannsModel):
    """A model that has a log-mel front end, normalised for each mel bin (``bn0``)."""

    def __init__(self, settings: Settings, spec_augment: bool = True):
        super().__init__(settings)
        front_end = settings.front_end
        self.log_mel = LogMel(front_end, settings.method)
        # an eighth of the bins at all numbers of them: the authors' code
        # the published stripes are those of 10 s clips
        full_length = front_end.frames(10 * front_end.sample_rate)
        augment = SpecAugment(bins=front_end.mel_bins // 8, full_length=full_length)
        self.spec_augment = augment if spec_augment else nn.Identity()

    spectrograms = 1  # how many log-mels the network sees of a clip

    @property
    def front_ends(self) -> list[FrontEnd]:
        """The settings of every spectrogram that the model computes."""
        return [self.front_end]

    def normalise(self, log_mel: Tensor) -> Tensor:
        """Batch norm over each mel bin of (batch, 1, frames, mel_bins), then SpecAugment."""
        # bn0 normalises axis 1, so that the bins go there and back
        return self.spec_augment(self.bn0(log_mel.transpose(1, 3)).transpose(1, 3))


class LogMelModel(LogMelInput):
    """A network on a log-mel spectrogram alone.

    Args:
        settings: see `Settings`.
        halvings: how often the network halves frames and mel bins.
        spec_augment: whether SpecAugment is there in training.
        mixup_on: what mixup mixes: the "log_mel", or the "waveform" (Table V).
    """

    def __init__(self, settings: Settings, halvings: int, spec_augment: bool = True, mixup_on: str = "log_mel"):
        super().__init__(settings, spec_augment)
        self.least_frames = 2**halvings
        self.check_bins(2**halvings)
        self.mixup_on = mixup_on
        self.takes_log_mel = mixup_on == "log_mel"
        self.bn0 = nn.BatchNorm2d(settings.front_end.mel_bins)

    @property
    def least_samples(self) -> int:
        return max((self.least_frames - 1) * self.front_end.hop, self.front_end.least_samples)

    def from_waveform(self, waveform: Tensor, mixup_lambda: Tensor | None) -> Output:
        if self.mixup_on == "waveform" and mixup_lambda is not None:
            return self.network(self.normalise(self.log_mel(mixup(waveform, mixup_lambda))))
        return self._from_log_mel(self.log_mel(waveform), mixup_lambda)

    def from_log_mel(self, log_mel: Tensor, mixup_lambda: Tensor | None) -> Output:
        """Compute the output of a log-mel (batch, 1, frames, mel_bins), which is checked first."""
        shape, bins = tuple(log_mel.shape), self.front_end.mel_bins
        good = len(shape) == 4 and shape[0] and shape[1] == 1 and shape[2] >= self.least_frames and shape[3] == bins
        if not good or not log_mel.is_floating_point():
            raise ModelError(
                f"{self.name}: the log-mel is {log_mel.dtype} {shape}; floats (batch, 1, frames, {bins}) with one "
                f"clip and {self.least_frames} frames at least are needed, as model.log_mel(waveform) gives them."
            )
        check_finite(log_mel)
        return self._from_log_mel(log_mel, mixup_lambda)

    def _from_log_mel(self, log_mel: Tensor, mixup_lambda: Tensor | None) -> Output:
        x = self.normalise(log_mel)
        return self.network(x if mixup_lambda is None else mixup(x, mixup_lambda))

    def network(self, x: Tensor) -> Output:
        """Compute the output of a normalised log-mel (batch, 1, frames, mel_bins)."""
        return self.classify(self.body(x).mean(dim=3))

    def body(self, x: Tensor) -> Tensor:
        """The convolutions: (batch, 1, frames, mel_bins) -> (batch, channels, steps, bands)."""
        raise NotImplementedError
