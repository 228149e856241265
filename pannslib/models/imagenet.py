"""ImageNet's networks on mel images: DenseNet-201, ResNet-50 and Inception-v3 from torchvision.

*Rethinking CNN Models for Audio Classification* (Palanisamy, Singhania and Yao 2020, arXiv:2007.11154) fine-tunes
networks that were trained on photographs. A photograph has three channels, and the paper fills them from a log-mel
spectrogram in two ways, which are two architectures of the registry here:

- three spectrograms with windows of 25, 50 and 100 ms and hops of 10, 25 and 50 ms ("ResNet50"), or
- one spectrogram, 25 ms and 10 ms, repeated ("ResNet50_repeated").

The networks are torchvision's, layer by layer; a narrower one has every number of channels scaled. They need the
extra ``imagenet`` (torchvision and captum): without it these architectures are not listed, and nothing else changes.
Weights are random, read from a file in torchvision's format, or torchvision's own (`load_weights`); which of them is
kept with the model (``model.weights``) and in its checkpoints.
"""

import copy
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pannslib import files, imagenet_files
from pannslib.errors import CheckpointError, ModelError
from pannslib.features import FrontEnd, LogMel, check_finite, mixup
from pannslib.models.base import Output, Settings, output_of
from pannslib.models.log_mel import LogMelInput

INSTALL = "pip install 'pannslib[imagenet]', or make env in a checkout"
PUBLISHED_CLASSES = 1000  # of ImageNet, which torchvision's weights tell apart
# windows and hops of the three spectrograms, as multiples of the front end's: 25/10, 50/25 and 100/50 ms
WINDOWS, HOPS = (1, 2, 4), (1.0, 2.5, 5.0)
# dB of the front end -> what a photograph's values are after the usual normalisation, about mean 0 and deviation 1
LEVEL, SCALE = -20.0, 20.0
RANDOM = "random"


# --- torchvision -----------------------------------------------------------------------------------------------


def available() -> bool:
    """Whether torchvision is installed; it isn't imported for that."""
    return importlib.util.find_spec("torchvision") is not None


@cache
def _schemas() -> list:
    """Where torchvision's compiled operators are registered; it lives as long as the process, and so do they."""
    return [torch.library.Library("torchvision", "FRAGMENT")]


def import_torchvision() -> ModuleType:
    """Import torchvision, also where its build doesn't go with torch's.

    The package index has a CUDA build of torchvision, whose compiled operators can't be loaded beside a CPU build of
    torch. torchvision then fails while it is imported, as it describes its operators ``nms`` and ``qnms``, which
    don't exist; so does everything that imports it, such as torchmetrics. Here their schemas are declared before, which
    is all that the import needs. The networks use neither operator; a call of one still fails, and says so.

    It changes nothing where the builds go together, and may be called any number of times, before or after another
    import of torchvision that failed.

    Raises:
        ModelError: torchvision isn't installed, or can't be imported for another reason.
    """
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"The ImageNet networks need torchvision, which isn't installed: {INSTALL}.")
    if not _load_operators(Path(found.submodule_search_locations[0])):
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                _schemas()[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        return importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as fault:
        raise ModelError(
            f"torchvision is installed, but not for this torch ({torch.__version__}): {fault}. Install the version "
            f"that belongs to it: {INSTALL}."
        ) from fault


def _load_operators(folder: Path) -> bool:
    """Load torchvision's compiled operators; False where there are none that go with this torch."""
    for library in (*folder.glob("_C.*so"), *folder.glob("_C.so"), *folder.glob("_C.pyd")):
        try:
            torch.ops.load_library(str(library))
        except (OSError, RuntimeError):
            continue
        return True
    return False


# --- the networks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """One of torchvision's networks.

    Attributes:
        builder: its name in ``torchvision.models``.
        weights: torchvision's name of its ImageNet weights.
        title: as the paper calls it.
        blocks: name -> its children, in running order; what is frozen or cut off together.
        head: the name of the classifier.
        least_pixels: the shortest side of an image that it can take.
        initialise: puts random values into the weights of a layer, as torchvision does.
        dropout: before the classifier.
        unused: children that belong to it but have no part in the output.
    """

    builder: str
    weights: str
    title: str
    blocks: Mapping[str, Sequence[str]]
    head: str
    least_pixels: int
    initialise: Callable[[nn.Module], None]
    dropout: float = 0.0
    unused: tuple[str, ...] = ()


def _initialise_densenet(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight)
    else:
        layer.reset_parameters()
        nn.init.zeros_(layer.bias)


def _initialise_resnet(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    else:
        layer.reset_parameters()


def _initialise_inception(layer: nn.Module) -> None:
    layer.reset_parameters()  # the biases
    nn.init.trunc_normal_(layer.weight, std=float(getattr(layer, "stddev", 0.1)), a=-2, b=2)


NETWORKS = {
    "DenseNet201": Network(
        "densenet201",
        "DenseNet201_Weights.IMAGENET1K_V1",
        "DenseNet-201",
        {
            "stem": ("features.conv0", "features.norm0", "features.relu0", "features.pool0"),
            "block1": ("features.denseblock1", "features.transition1"),
            "block2": ("features.denseblock2", "features.transition2"),
            "block3": ("features.denseblock3", "features.transition3"),
            "block4": ("features.denseblock4", "features.norm5"),
        },
        "classifier",
        32,
        _initialise_densenet,
    ),
    "ResNet50": Network(
        "resnet50",
        "ResNet50_Weights.IMAGENET1K_V1",
        "ResNet",
        {
            "stem": ("conv1", "bn1", "relu", "maxpool"),
            "block1": ("layer1",),
            "block2": ("layer2",),
            "block3": ("layer3",),
            "block4": ("layer4",),
        },
        "fc",
        32,
        _initialise_resnet,
    ),
    "InceptionV3": Network(
        "inception_v3",
        "Inception_V3_Weights.IMAGENET1K_V1",
        "Inception",
        {
            "stem": (
                *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1"),
                *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
            ),
            "block1": ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
            "block2": ("Mixed_6a", "Mixed_6b", "Mixed_6c"),
            "block3": ("Mixed_6d", "Mixed_6e"),
            "block4": ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
        },
        "fc",
        75,
        _initialise_inception,
        dropout=0.5,
        unused=("AuxLogits",),
    ),
}


def _build(network: Network, settings: Settings) -> nn.Module:
    """torchvision's network with random weights, every number of channels scaled by the settings' width."""
    target = torch.empty(0).device  # "meta" where only shapes are wanted
    built = copy.deepcopy(
        _shapes(network.builder, bool(network.unused), settings.name, settings.classes, settings.width)
    )
    built.to_empty(device=target)
    for layer in built.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            network.initialise(layer)
    return built


@lru_cache(maxsize=16)
def _shapes(builder: str, auxiliary: bool, name: str, classes: int, width: float) -> nn.Module:
    """torchvision's network without values; finding its sizes takes longer than copying them."""
    options = {"aux_logits": True, "init_weights": False} if auxiliary else {}
    with torch.device("meta"):
        built = import_torchvision().models.get_model(builder, weights=None, num_classes=classes, **options)
        if width != 1:
            _scale(built, Settings(name, classes, width, FrontEnd()))
    return built


def _scale(network: nn.Module, settings: Settings) -> None:
    """Scale the channels of all convolutions, and fit what follows: an image's shapes run through the network.

    Outputs that are joined add up whatever their rounding, since each layer takes what reaches it.
    """

    def fit(layer: nn.Module, inputs: tuple) -> None:
        channels = inputs[0].shape[1]
        if isinstance(layer, nn.Conv2d):
            layer.in_channels, layer.out_channels = channels, settings.channels(layer.out_channels)
            layer.weight = nn.Parameter(torch.empty(layer.out_channels, channels, *layer.kernel_size))
        elif isinstance(layer, nn.BatchNorm2d):
            layer.num_features = channels
            layer.weight, layer.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))
            layer.running_mean, layer.running_var = torch.empty(channels), torch.empty(channels)
        elif isinstance(layer, nn.Linear):
            layer.in_features = channels
            layer.weight = nn.Parameter(torch.empty(layer.out_features, channels))

    kinds = nn.Conv2d | nn.BatchNorm2d | nn.Linear
    handles = [layer.register_forward_pre_hook(fit) for layer in network.modules() if isinstance(layer, kinds)]
    network(torch.empty(2, 3, 299, 299))
    for handle in handles:
        handle.remove()


class MelImages(nn.Module):
    """Waveform float32 (batch, samples) -> log-mels float32 (batch, spectrograms, frames, mel_bins) in dB.

    The first spectrogram has the front end's own window and hop. The others, if any, have those of `WINDOWS` and
    `HOPS`, and are stretched in time to as many frames.
    """

    def __init__(self, settings: Settings, spectrograms: int):
        super().__init__()
        base = settings.front_end
        parts = list(zip(WINDOWS, HOPS, strict=True))[:spectrograms]
        self.front_ends = [replace(base, window=base.window * w, hop=round(base.hop * h)) for w, h in parts]
        self.spectrograms = nn.ModuleList(LogMel(front_end, settings.method) for front_end in self.front_ends)

    def forward(self, waveform: Tensor) -> Tensor:
        log_mels = [spectrogram(waveform) for spectrogram in self.spectrograms]
        size = log_mels[0].shape[2:]
        rest = [F.interpolate(log_mel, size, mode="bilinear", align_corners=True) for log_mel in log_mels[1:]]
        return torch.cat([log_mels[0], *rest], dim=1)


class ImageNetModel(LogMelInput):
    """One of `NETWORKS` on mel images.

    The spectrograms are resized to one image (batch, 3, mel bins, columns), low frequencies first, with a column for
    each hop of the middle spectrogram (25 ms) and at least as many pixels on a side as the network can take. Values
    are shifted and scaled from dB by two fixed numbers, so that the parameters are the published ones and no more.
    SpecAugment is no part of the paper, and isn't here. Inception's auxiliary classifier is there, so that published
    weights fit, but has no part in output or loss.

    Args:
        settings: see `Settings`.
        network: a name of `NETWORKS`.
        spectrograms: 3, or 1 which is repeated.

    Attributes:
        weights: where the weights come from: "random", or what `load_weights` says.
        block_names: of the parts that can be frozen or cut off, in running order.
    """

    takes_log_mel = True

    def __init__(self, settings: Settings, network: str, spectrograms: int):
        super().__init__(settings, spec_augment=False)
        self.facts = NETWORKS[network]
        self.spectrograms = spectrograms
        self.log_mel = MelImages(settings, spectrograms)
        self.network = _build(self.facts, settings)
        self.weights = RANDOM
        self.frozen: tuple[str, ...] = ()
        self.block_names = tuple(self.facts.blocks)
        self.classifier = f"network.{self.facts.head}"
        self.unused_parameters = tuple(f"network.{name}." for name in self.facts.unused)
        self.embedding_size = self.head.in_features

    @property
    def front_ends(self) -> list:
        """The settings of every spectrogram."""
        return self.log_mel.front_ends

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return getattr(self.network, self.facts.head)

    def is_head(self, name: str) -> bool:
        return super().is_head(name) or name.startswith("network.AuxLogits.fc.")

    @property
    def least_samples(self) -> int:
        return self.front_ends[-1].least_samples

    def layers(self, block: str) -> list[nn.Module]:
        """The modules of one of ``block_names``, in running order."""
        return [self.network.get_submodule(name) for name in self.facts.blocks[block]]

    def cut(self, last: str) -> None:
        """Leave out all blocks behind ``last``; a new random classifier takes what that puts out.

        Raises:
            ModelError: there is no such block.
        """
        self.check_block(last)
        kept = self.block_names.index(last) + 1
        for block in self.block_names[kept:]:
            for name in self.facts.blocks[block]:
                self.network.set_submodule(name, nn.Identity())
        self.block_names = self.block_names[:kept]
        side, training = self.facts.least_pixels, self.training
        with torch.no_grad():
            channels = self.eval().features(torch.zeros(1, 3, side, side, device=self.head.weight.device))[-1].shape[1]
        self.train(training)
        head = nn.Linear(channels, self.classes, device=self.head.weight.device)
        self.facts.initialise(head)
        setattr(self.network, self.facts.head, head)
        self.embedding_size = channels

    def freeze(self, last: str) -> None:
        """Keep the weights and the batch norms' statistics of all blocks up to ``last`` as they are, in training too.

        Raises:
            ModelError: there is no such block.
        """
        self.check_block(last)
        self.frozen = self.block_names[: self.block_names.index(last) + 1]
        for layer in self._frozen_layers():
            layer.requires_grad_(False)
        self.train(self.training)

    def _frozen_layers(self) -> list[nn.Module]:
        return [layer for block in self.frozen for layer in self.layers(block)]

    def train(self, mode: bool = True) -> "ImageNetModel":
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for layer in self._frozen_layers():
            layer.eval()
        return self

    def block_of(self, layer: str) -> str:
        """The block that a submodule is in, by its name in `named_modules`; "" for those of the classifier."""
        name = layer.removeprefix("network.")
        return next(
            (
                b
                for b, parts in self.facts.blocks.items()
                if name.startswith(tuple(f"{p}." for p in parts)) or name in parts
            ),
            "",
        )

    def check_block(self, name: str) -> None:
        """Raise `ModelError` unless the network has a block of that name."""
        if name not in self.block_names:
            raise ModelError(f"{self.name} has no block {name!r}; its blocks are {', '.join(self.block_names)}.")

    def from_waveform(self, waveform: Tensor, mixup_lambda: Tensor | None) -> Output:
        return self._from_log_mel(self.log_mel(waveform), mixup_lambda)

    def from_log_mel(self, log_mel: Tensor, mixup_lambda: Tensor | None) -> Output:
        """Compute the output of log-mels (batch, spectrograms, frames, mel_bins), which are checked first."""
        shape, bins = tuple(log_mel.shape), self.front_end.mel_bins
        good = len(shape) == 4 and shape[0] and shape[1] == self.spectrograms and shape[2] and shape[3] == bins
        if not good or not log_mel.is_floating_point():
            raise ModelError(
                f"{self.name}: the log-mel is {log_mel.dtype} {shape}; floats (batch, {self.spectrograms}, frames, "
                f"{bins}) with one clip and one frame at least are needed, as model.log_mel(waveform) gives them."
            )
        check_finite(log_mel)
        return self._from_log_mel(log_mel, mixup_lambda)

    def _from_log_mel(self, log_mel: Tensor, mixup_lambda: Tensor | None) -> Output:
        images = self.images(log_mel)
        return self.from_images(images if mixup_lambda is None else mixup(images, mixup_lambda))

    def images(self, log_mel: Tensor) -> Tensor:
        """Log-mels (batch, spectrograms, frames, mel_bins) in dB -> images (batch, 3, height, width)."""
        columns = round((log_mel.shape[2] - 1) / HOPS[1]) + 1
        least = self.facts.least_pixels
        size = max(self.front_end.mel_bins, least), max(columns, least)
        images = ((log_mel - LEVEL) / SCALE).transpose(2, 3)
        if tuple(images.shape[2:]) != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return images.expand(-1, 3, -1, -1) if self.spectrograms == 1 else images

    def from_images(self, images: Tensor) -> Output:
        """Compute the output of images (batch, 3, height, width), as `images` gives them."""
        x = self.features(images)[-1].mean(dim=(2, 3))  # (batch, embedding_size)
        return output_of(self.head(self.dropout(x, self.facts.dropout)), embedding=x)

    def features(self, images: Tensor) -> list[Tensor]:
        """What each block puts out for images: (batch, channels, height, width)."""
        x, outputs = images, []
        for block in self.block_names:
            for layer in self.layers(block):
                x = layer(x)
            # DenseNet's last norm has its ReLU outside of the block, in place in torchvision
            outputs.append(F.relu(x) if block == "block4" else x)
        return outputs

    def converted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict with the names of this package, from one of torchvision's or of its own."""
        if any(name.startswith("network.") for name in weights):
            return weights
        # torchvision's published DenseNet files have "denselayer1.norm.1", its code "denselayer1.norm1"
        old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
        renamed = _prefixed({old.sub(r"\1\2", name): value for name, value in weights.items()}, "network.")
        # files from before PyTorch 0.4.1 don't count batches
        counts = {name: value for name, value in self.state_dict().items() if name.endswith("num_batches_tracked")}
        return counts | renamed


def _prefixed(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


# --- weights ---------------------------------------------------------------------------------------------------


def find_weights(name: str, folders: Sequence[str | Path]) -> Path | None:
    """A file of ImageNet weights of an architecture in one of the folders, or None.

    See `imagenet_files.find`, which knows how such a file is called and where else it may be.
    """
    network_of(name)
    return imagenet_files.find(name.removesuffix("_repeated"), folders)


def network_of(name: str) -> Network:
    """The facts of an architecture: "ResNet50", or "ResNet50_repeated" which has the same network.

    Raises:
        ModelError: it isn't one of ImageNet's.
    """
    stem = name.removesuffix("_repeated")
    if stem not in NETWORKS:
        raise ModelError(f"{name!r} is no ImageNet network; there are {', '.join(NETWORKS)}.")
    return NETWORKS[stem]


def load_weights(model: ImageNetModel, source: str | Path) -> ImageNetModel:
    """Put ImageNet weights into a model, all but the classifier's where it has other classes than ImageNet.

    Args:
        model: of the published width.
        source: "torchvision" for its own, from its cache or its server; else the path of a file in its format.

    Returns:
        ``model``, whose ``weights`` says from where they are.

    Raises:
        CheckpointError: no such file or not one of this network; no network to download it from.
        ModelError: the model is narrower than the published one.
    """
    if model.width != 1:
        raise ModelError(
            f"{model.name} was created with width {model.width:g}; ImageNet's weights need the published network, "
            "width=1."
        )
    from pannslib.models.checkpoints import load_checkpoint

    path = download(model.name) if source == "torchvision" else Path(source)
    load_checkpoint(model, path, head=model.classes == PUBLISHED_CLASSES)
    model.weights = origin(model.name, path)
    return model


def origin(name: str, path: Path) -> str:
    """What a file of weights is, for people: torchvision's own by its checksum, or another in its format."""
    checksum = files.sha256(path)
    for weights in import_torchvision().models.get_model_weights(network_of(name).builder):
        # torchvision writes the first digits of the checksum into the name of the file
        if checksum.startswith(weights.url.rsplit("-", 1)[-1].split(".")[0]):
            return f"ImageNet, torchvision's {weights}"
    return f"a file, {path.name} (sha256 {checksum[:12]}), not one that torchvision publishes"


def download(name: str) -> Path:
    """Fetch torchvision's ImageNet weights of an architecture into torch's cache, if they aren't there.

    Raises:
        CheckpointError: no network, no space, or not what torchvision published.
    """
    weights = import_torchvision().models.get_weight(network_of(name).weights)
    path = imagenet_files.hub_folder() / weights.url.rsplit("/", 1)[-1]
    try:
        # the checksum is looked at only when it is fetched: a file that was put there by hand is the user's word
        weights.get_state_dict(progress=False, check_hash=True, model_dir=str(path.parent), map_location="cpu")
        return path
    except (OSError, RuntimeError, EOFError) as fault:  # no network, no space; a wrong hash; a damaged file
        raise CheckpointError(
            f"{weights.url} can't be had ({fault}). Download it by other means and put it into "
            f"{imagenet_files.hub_folder()}, or give its path to load_weights(model, path)."
        ) from fault
