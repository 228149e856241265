"""What a network starts from: ImageNet's weights where there are some, a stand-in for them, or chance."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pannslib import files, imagenet_files
from pannslib.catalogue import RETHINKING, Plan
from pannslib.errors import CheckpointError
from pannslib.models import imagenet

IMAGENET, STAND_IN, RANDOM = "imagenet", "stand_in", "random"
TITLES = {IMAGENET: "ImageNet", STAND_IN: "AudioSet stand-in", RANDOM: "random"}


def missing() -> str:
    """What is to be installed before anything here can run; empty where all is there."""
    absent = [name for name in ("torchvision", "captum") if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed: {imagenet.INSTALL}."


@dataclass(frozen=True)
class Start:
    """The weights that training starts from.

    Attributes:
        kind: "imagenet", "stand_in" or "random".
        origin: exactly which they are, for people.
        width: of the network.
        path: of the file; None where there is none, or where it is made by the study.
    """

    kind: str
    origin: str
    width: float
    path: Path | None = None

    @property
    def title(self) -> str:
        """In a word."""
        return TITLES[self.kind]

    @property
    def pretrained(self) -> bool:
        return self.kind != RANDOM

    @property
    def key(self) -> str:
        """A name for files, another one for other weights."""
        return f"{self.kind}_{files.digest([self.origin, self.width])[:6]}"


def starts_of(plan: Plan, network: str) -> tuple[Start, ...]:
    """What a network starts from in a plan, the pretrained weights first and chance last.

    ImageNet's weights are taken where a file of them is found (`imagenet_files.find`), or may be fetched and are. Both
    starts then have the published width. Where there are none, the studied network gets a stand-in: the weights that
    training on the plan's AudioSet leaves, which is another thing, and is told as such.
    """
    settings = plan.settings(RETHINKING)
    path, missing = imagenet_files.find(network, plan.weight_folders()), "no file of them was found"
    if path is None and settings.weights == "download":
        try:
            path = imagenet.download(network)
        except CheckpointError as fault:
            missing = str(fault).split(". ")[0]
    if path is not None:
        found = Start(IMAGENET, imagenet.origin(network, path), 1.0, path)
        return found, Start(RANDOM, "random values", 1.0)
    chance = Start(RANDOM, f"random values; ImageNet's weights aren't here ({missing})", settings.width)
    if network != settings.studied:
        return (chance,)
    audioset = plan.packed("audioset")
    what = "AudioSet" if audioset.evidence == "real" else f"AudioSet ({audioset.evidence})"
    told = f"{settings.stand_in.iterations:,} steps on {what}, in place of ImageNet's weights ({missing})"
    return Start(STAND_IN, told, settings.width), chance
