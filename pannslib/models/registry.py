"""The architectures by the authors' class names: what each is built from, and `create_model`."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import torch

from pannslib.errors import ModelError
from pannslib.features import FRONT_ENDS, FrontEnd
from pannslib.models.base import PannsModel, Settings
from pannslib.models.cnn import Cnn
from pannslib.models.decision_level import CnnDecisionLevel
from pannslib.models.imagenet import ImageNetModel, available
from pannslib.models.mobilenet import MobileNet
from pannslib.models.residual import BASIC, BOTTLENECK
from pannslib.models.resnet import ResNet
from pannslib.models.vggish import Vggish
from pannslib.models.waveform import DaiNet, LeeNet, Res1dNet
from pannslib.models.wavegram import Wavegram, WavegramLogmel


@dataclass(frozen=True)
class Architecture:
    """A row of the registry.

    Attributes:
        family: of architectures, as in Figure 5 and the sections of the paper.
        paper_table: where the paper reports it, in Roman numerals; empty for those that only the code has.
        build: the class, called with `Settings` and ``options``.
        options: what differs from others of the class.
        front_end: the published one.
        front_ends: sample rate (Hz) -> the one that goes with it.
    """

    family: str
    paper_table: str
    build: type[PannsModel]
    options: Mapping = field(default_factory=dict)
    front_end: FrontEnd = FRONT_ENDS[32_000]
    front_ends: Mapping[int, FrontEnd] = field(default_factory=FRONT_ENDS.copy)


CNN14 = {"channels": (64, 128, 256, 512, 1024, 2048), "embedding_size": 2048}
SMALL_CNN = {"channels": (64, 128, 256, 512), "embedding_size": 512, "last_pooling": True}
LEE11 = {"channels": (64, 64, 64, 128, 128, 128, 128, 128, 256), "convolutions": 1, "embedding_size": 512}
LEE24 = {"channels": (64, 96, 128, 128, 256, 256, 512, 512, 1024), "convolutions": 2, "embedding_size": 1024}


def _cnn14(paper_table: str, front_end: FrontEnd = FRONT_ENDS[32_000], **options) -> Architecture:
    return Architecture("CNN", paper_table, Cnn, CNN14 | options, front_end)


def _decision_level(pooling: str) -> Architecture:
    return Architecture("DecisionLevel", "", CnnDecisionLevel, CNN14 | {"pooling": pooling})


# windows of 25 ms and hops of 10 ms, of which the wider ones are multiples
IMAGENET_FRONT_ENDS = {
    32_000: FrontEnd(window=800, mel_bins=128),
    16_000: FrontEnd(sample_rate=16_000, window=400, hop=160, mel_bins=128, fmax=8_000),
}


def _imagenet(network: str, spectrograms: int) -> Architecture:
    options = {"network": network, "spectrograms": spectrograms}
    return Architecture("ImageNet", "", ImageNetModel, options, IMAGENET_FRONT_ENDS[32_000], IMAGENET_FRONT_ENDS)


def _bins(mel_bins: int) -> FrontEnd:
    return replace(FRONT_ENDS[32_000], mel_bins=mel_bins)


ARCHITECTURES = {
    "Cnn6": Architecture("CNN", "XI", Cnn, SMALL_CNN | {"convolutions": 1}),
    "Cnn10": Architecture("CNN", "XI", Cnn, SMALL_CNN),
    "Cnn14": _cnn14("XI"),
    "Cnn14_no_specaug": _cnn14("V", spec_augment=False),
    "Cnn14_no_dropout": _cnn14("", block_dropout=0.0),
    "Cnn14_mixup_time_domain": _cnn14("V", mixup_on="waveform"),
    "Cnn14_emb512": _cnn14("VII", embedding_size=512),
    "Cnn14_emb128": _cnn14("VII", embedding_size=128),
    "Cnn14_emb32": _cnn14("VII", embedding_size=32),
    "Cnn14_mel32": _cnn14("X", _bins(32)),
    "Cnn14_mel128": _cnn14("X", _bins(128)),
    "Cnn14_16k": _cnn14("IX", FRONT_ENDS[16_000]),
    "Cnn14_8k": _cnn14("IX", FRONT_ENDS[8_000]),
    "Cnn14_DecisionLevelMax": _decision_level("max"),
    "Cnn14_DecisionLevelAvg": _decision_level("avg"),
    "Cnn14_DecisionLevelAtt": _decision_level("att"),
    "ResNet22": Architecture("ResNet", "XI", ResNet, {"blocks": (2, 2, 2, 2), "branch": BASIC}),
    "ResNet38": Architecture("ResNet", "XI", ResNet, {"blocks": (3, 4, 6, 3), "branch": BASIC}),
    "ResNet54": Architecture("ResNet", "XI", ResNet, {"blocks": (3, 4, 6, 3), "branch": BOTTLENECK}),
    "MobileNetV1": Architecture("MobileNet", "XI", MobileNet, {"version": 1}),
    "MobileNetV2": Architecture("MobileNet", "XI", MobileNet, {"version": 2}),
    "LeeNet11": Architecture("1D CNN", "XI", LeeNet, LEE11 | {"last_pooling": True, "block_dropout": 0.0}),
    "LeeNet24": Architecture("1D CNN", "XI", LeeNet, LEE24 | {"last_pooling": False, "block_dropout": 0.1}),
    "DaiNet19": Architecture("1D CNN", "XI", DaiNet),
    "Res1dNet31": Architecture("1D CNN", "XI", Res1dNet, {"blocks": (2, 2, 2, 2, 2, 2, 2)}),
    "Res1dNet51": Architecture("1D CNN", "XI", Res1dNet, {"blocks": (2, 3, 4, 6, 4, 3, 2)}),
    "Wavegram_Cnn14": Architecture("Wavegram", "XI", Wavegram),
    "Wavegram_Logmel_Cnn14": Architecture("Wavegram", "XI", WavegramLogmel),
    "Wavegram_Logmel128_Cnn14": Architecture("Wavegram", "X", WavegramLogmel, {}, _bins(128)),
    "VGGish": Architecture("VGGish", "I", Vggish, {}, FRONT_ENDS[16_000]),
    "DenseNet201": _imagenet("DenseNet201", 3),
    "DenseNet201_repeated": _imagenet("DenseNet201", 1),
    "ResNet50": _imagenet("ResNet50", 3),
    "ResNet50_repeated": _imagenet("ResNet50", 1),
    "InceptionV3": _imagenet("InceptionV3", 3),
    "InceptionV3_repeated": _imagenet("InceptionV3", 1),
}


class ModelName(str):
    """The name of an architecture, with what is known of it.

    Attributes:
        family: "CNN", "ResNet", "MobileNet", "1D CNN", "Wavegram", "DecisionLevel", "VGGish" or "ImageNet".
        sample_rate: Hz, as published.
        paper_table: where the paper reports it, e.g. "XI"; empty for those that only the authors' code has.
        parameters: of the published size, which has 527 classes.
    """

    def __new__(cls, name: str):
        self = super().__new__(cls, name)
        row = ARCHITECTURES[name]
        self.family = row.family
        self.sample_rate = row.front_end.sample_rate
        self.paper_table = row.paper_table
        return self

    @property
    def parameters(self) -> int:
        return _parameters(str(self))


@cache
def _parameters(name: str) -> int:
    return sum(parameter.numel() for parameter in skeleton(name).parameters())


def skeleton(name: str, **options) -> PannsModel:
    """A model of shapes without weights, in no time; the arguments are those of `create_model`."""
    with torch.device("meta"):
        return create_model(name, **options)


def list_models() -> list[ModelName]:
    """The names of all architectures: those of the paper, their variants, VGGish, and ImageNet's.

    The last are there where their extra is installed (`models.imagenet`).
    """
    return [ModelName(name) for name, row in ARCHITECTURES.items() if row.build is not ImageNetModel or available()]


def architecture(name: str) -> Architecture:
    """The registry's row of a name.

    Raises:
        ModelError: there is none; it suggests the nearest.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    lower = {known.lower(): known for known in ARCHITECTURES}
    near = difflib.get_close_matches(str(name).lower().replace("-", "_"), lower, n=1)
    hint = f" Did you mean {lower[near[0]]!r}?" if near else ""
    raise ModelError(f"There is no model {name!r}.{hint} There are {', '.join(ARCHITECTURES)}.")


def create_model(name: str, classes: int = 527, width: float = 1.0, *, method: str = "fft", **front_end) -> PannsModel:
    """Build an architecture with random weights, in training mode.

    Args:
        name: one of `list_models`.
        classes: how many there are to tell apart.
        width: a factor on all numbers of channels but the classes; 1 is as published.
        method: how the STFT is computed, "fft" or "conv" (`features.LogMel`).
        **front_end: settings of `features.FrontEnd` that differ from the published ones. A ``sample_rate`` of
            16000 or 8000 alone brings the other settings that are published with it.

    Raises:
        ModelError: an unknown name, classes or width out of range, a front end that the architecture can't take.
    """
    row = architecture(name)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise ModelError(f"{name}: classes is {classes!r}; it must be a whole number of 1 or more.")
    if not isinstance(width, int | float) or not 0 < width <= 16:
        raise ModelError(f"{name}: width is {width!r}; it must be a number above 0, at most 16.")
    return row.build(Settings(str(name), classes, float(width), _front_end(row, front_end), method), **row.options)


def _front_end(row: Architecture, changes: dict) -> FrontEnd:
    """The published front end with some settings changed."""
    allowed = FrontEnd.__dataclass_fields__
    for key in changes:
        if key not in allowed:
            raise ModelError(f"A model has no setting {key!r}; its front end has {', '.join(allowed)}.")
    published = row.front_end
    if changes.get("sample_rate", published.sample_rate) != published.sample_rate:
        other = row.front_ends.get(changes["sample_rate"], published)
        published = replace(other, mel_bins=published.mel_bins)
    return replace(published, **changes)
