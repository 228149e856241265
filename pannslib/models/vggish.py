"""The VGGish network of Table I, the reference system [1] of the paper, which doesn't train it."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from pannslib.models.base import Output, Settings, output_of
from pannslib.models.decision_level import logit_of_mean
from pannslib.models.layers import initialise
from pannslib.models.log_mel import LogMelModel

PATCH = 96  # frames that the network sees at once: 0.96 s
LAYERS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")  # channels of 3 x 3 convolutions


class Vggish(LogMelModel):
    """Table I's layers on patches of 96 frames; a clip's probabilities are the mean of its patches'.

    Table I has the size of the input alone. The front end here is the 16 kHz one of the PANNs, on which VGGish's
    own stabilised logarithm, ln(power + 0.01), is taken. Frames after the last whole patch are left out.
    """

    def __init__(self, settings: Settings):
        super().__init__(settings, halvings=4, spec_augment=False)
        self.least_frames = PATCH
        del self.bn0  # Table I has no batch norm for it
        layers, channels = [], 1
        for layer in LAYERS:
            if layer == "pool":
                layers.append(nn.MaxPool2d(2))
                continue
            outputs = settings.channels(layer)
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.embedding_size = settings.channels(4096)
        flat = channels * (PATCH // 16) * (settings.front_end.mel_bins // 16)
        self.fc0 = nn.Linear(flat, self.embedding_size)
        self.fc1 = nn.Linear(self.embedding_size, self.embedding_size)
        self.fc_audioset = nn.Linear(self.embedding_size, self.classes)
        initialise(self)

    def normalise(self, log_mel: Tensor) -> Tensor:
        """dB -> ln(power + 0.01)."""
        return ((log_mel * (math.log(10) / 10)).exp() + 0.01).log()

    def network(self, x: Tensor) -> Output:
        patches = x.shape[2] // PATCH
        x = x[:, 0, : patches * PATCH].unflatten(1, (patches, PATCH))  # (batch, patches, 96, bins)
        x = self.features(x.flatten(0, 1)[:, None]).flatten(1)  # (batch * patches, features)
        x = F.relu_(self.fc1(F.relu_(self.fc0(x)))).unflatten(0, (-1, patches))  # (batch, patches, 4096)
        return output_of(logit_of_mean(self.fc_audioset(x).float()), embedding=x.mean(dim=1))
