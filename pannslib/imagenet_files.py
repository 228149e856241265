"""Where files of ImageNet weights may be, and which there are; no weight is read for that."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

# network -> how the names of torchvision's files of its weights begin
STEMS = {"DenseNet201": "densenet201", "ResNet50": "resnet50", "InceptionV3": "inception_v3"}
SUFFIXES = (".pth", ".pt", ".safetensors")


def installed() -> bool:
    """Whether the extra ``imagenet`` is there: torchvision, and captum."""
    return all(importlib.util.find_spec(name) is not None for name in ("torchvision", "captum"))


def hub_folder() -> Path:
    """The folder that torch keeps downloaded weights in."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def find(network: str, folders: Sequence[str | Path] = ()) -> Path | None:
    """A file of ImageNet weights of a network of `STEMS`, or None.

    It is called as torchvision calls it, ``resnet50-….pth`` for instance (or ``.pt``, ``.safetensors``). The folders
    are looked through in their order, then the one that ``PANNS_CACHE`` names, then torch's own; of several files in
    one the first by name is taken.
    """
    own = [os.environ["PANNS_CACHE"]] if os.environ.get("PANNS_CACHE") else []
    for folder in map(Path, (*folders, *own, hub_folder())):
        found = [path for path in sorted(folder.glob(f"{STEMS[network]}*")) if path.suffix in SUFFIXES]
        if found:
            return found[0]
    return None
