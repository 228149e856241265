"""Profiles: one small YAML file sets how large everything is, and nothing else.

Four come with the package (`smoke`, `demo`, `gpu`, `full`); a path to a fifth works in their place. A profile
is checked when it is loaded: an unknown key, a wrong type or a value out of range is a `ProfileError` that
names the key, the value and what is allowed.

``runs`` holds differences for single runs of the catalogue, for example::

    runs:
      transfer_esc50: {fine_tune: {iterations: 300}}
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pannslib.errors import ProfileError

FOLDER = Path(__file__).resolve().parent
BUILT_IN = ("smoke", "demo", "gpu", "full")

Count = Annotated[int, Field(ge=1, le=100_000_000)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Rate = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Threads = Annotated[int, Field(ge=1, le=256)]
Accelerator = Literal["cpu", "cuda", "auto"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Architecture = Annotated[str, Field(min_length=1)]
Width = Annotated[float, Field(gt=0, le=4)]
Folds = Annotated[int, Field(ge=1, le=10)]
Sampling = Literal["uniform", "balanced", "alternating"]
TrainingSet = Literal["full", "balanced"]
Resampling = Literal["resample", "decimate"]
Factor = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Gibibytes = Annotated[float, Field(ge=0, le=1024)]


class Settings(BaseModel):
    """Base of all sections: strict types, no key that isn't known, and never changed after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AudioSetMiniature(Settings):
    """Sizes of Mini-AudioSet, which stands in for AudioSet where that isn't there."""

    seconds: Annotated[float, Field(ge=1, le=10)]
    unbalanced: Annotated[int, Field(ge=44, le=1_000_000)]  # clips, in a long tail over the classes
    balanced_per_class: Annotated[int, Field(ge=1, le=1000)]
    eval_per_class: Annotated[int, Field(ge=1, le=1000)]


class Esc50Miniature(Settings):
    """Sizes of the ESC-50 miniature: five folds of 5 s clips."""

    classes: Annotated[int, Field(ge=2, le=16)]
    clips_per_class_and_fold: Annotated[int, Field(ge=1, le=200)]


class RavdessMiniature(Settings):
    """Sizes of the RAVDESS miniature: synthetic voices."""

    actors: Annotated[int, Field(ge=2, le=24)]
    files_per_actor: Literal[15, 30, 60]


class Dcase2019Task1aMiniature(Settings):
    """Sizes of the acoustic scenes miniature: ten scenes, stereo; two clips a place."""

    seconds: Annotated[float, Field(ge=1, le=10)]  # 10 in the real set
    training_per_scene: Annotated[int, Field(ge=1, le=1000)]
    test_per_scene: Annotated[int, Field(ge=1, le=1000)]


class Dcase2018Task2Miniature(Settings):
    """Sizes of the FSDKaggle2018 miniature: clips of 0.3 s and more, in a long tail."""

    classes: Annotated[int, Field(ge=2, le=16)]
    largest_class: Annotated[int, Field(ge=2, le=1000)]  # training clips
    test_per_class: Annotated[int, Field(ge=1, le=1000)]
    longest: Annotated[float, Field(ge=1, le=30)]  # seconds; 30 in the real set


class MsosMiniature(Settings):
    """Sizes of the Making Sense of Sounds miniature: five categories with seven kinds of event each."""

    seconds: Annotated[float, Field(ge=1, le=10)]
    development_per_category: Annotated[int, Field(ge=6, le=1000)]
    evaluation_per_category: Annotated[int, Field(ge=2, le=1000)]


class GtzanMiniature(Settings):
    """Sizes of the GTZAN miniature: ten genres."""

    clips_per_genre: Annotated[int, Field(ge=2, le=100)]
    seconds: Annotated[float, Field(ge=1, le=30)]


class UrbanSound8KMiniature(Settings):
    """Sizes of the UrbanSound8K miniature: ten classes, ten folds."""

    clips_per_class_and_fold: Annotated[int, Field(ge=1, le=100)]
    seconds: Annotated[float, Field(ge=0.5, le=4)]


class OwnDataMiniature(Settings):
    """Sizes of the example of one's own data: ten spoken digits."""

    speakers: Annotated[int, Field(ge=2, le=12)]
    takes: Annotated[int, Field(ge=1, le=100)]


class Miniatures(Settings):
    """Sizes of all miniatures."""

    audioset: AudioSetMiniature
    esc50: Esc50Miniature
    dcase2019_task1a: Dcase2019Task1aMiniature
    dcase2018_task2: Dcase2018Task2Miniature
    msos: MsosMiniature
    gtzan: GtzanMiniature
    ravdess: RavdessMiniature
    urbansound8k: UrbanSound8KMiniature
    own_data: OwnDataMiniature


class Optimisation(Settings):
    """How one network is trained."""

    iterations: Count  # optimiser steps
    batch_size: Annotated[int, Field(ge=1, le=65_536)]  # clips a step, after mixup
    learning_rate: Rate  # the peak, where the schedule isn't constant
    schedule: Literal["constant", "one_cycle"] = "constant"
    mixup: bool = False  # mix pairs of log-mels and targets, section IV-B of the paper
    accumulate: Annotated[int, Field(ge=1, le=4096)] = 1  # parts that a step's batch is computed in, for small memories


class FrontEndChanges(Settings):
    """What differs from the front end that an architecture was published with."""

    sample_rate: Literal[8_000, 16_000, 32_000] | None = None  # Hz; brings window, hop and upper edge with it
    hop: Annotated[int, Field(ge=1, le=32_000)] | None = None  # samples
    mel_bins: Annotated[int, Field(ge=1, le=1024)] | None = None


class Training(Settings):
    """AudioSet tagging (section IV of the paper)."""

    seconds: Seconds  # length that clips are padded or cropped to
    optimisation: Optimisation
    evaluate_every: Count  # optimiser steps
    sampling: Sampling = "balanced"  # the classes evenly (section IV-A), the clips evenly, or in turn
    training_set: TrainingSet = "full"  # or AudioSet's balanced part alone
    share: Share = 1.0  # of the training clips, drawn by the seed (Table VIII)
    front_end: FrontEndChanges = FrontEndChanges()
    resampling: Resampling = "resample"  # to 16 and 8 kHz; the paper dropped samples instead ("decimate")
    compile: bool = False  # compile the network: pays off in long runs


class TransferTask(Settings):
    """What differs between the transfer tasks."""

    seconds: Seconds  # length that clips are padded or cropped to
    folds: Folds | None = None  # test folds to run; all where it isn't given
    segments: bool = False  # longer clips become several of that length, whose predictions are averaged


class FewShot(Settings):
    """Figures 6 to 11: few training clips a class. The peaks of the rates are those of the whole experiment."""

    strategies: Annotated[list[Literal["scratch", "fine_tune", "freeze_l1", "freeze_l3"]], Field(min_length=1)]
    draws: Annotated[int, Field(ge=1, le=1000)]  # of clips at each point, for the frozen strategies
    whole_draws: Annotated[int, Field(ge=1, le=1000)]  # the same where the whole network is trained
    frozen_iterations: Count
    whole_iterations: Count
    whole_points: list[Count] | None = None  # clips a class at which the whole network is trained; all points if none


class Transfer(Settings):
    """The strategies of section V of the paper; every number is fixed beforehand, none is chosen on a test fold."""

    pretrained: Annotated[str, Field(min_length=1)] = "run"  # or released, or the path of a checkpoint
    architecture: Architecture | None = None  # of the network; that of the pretraining where it isn't given
    scratch: Optimisation
    fine_tune: Optimisation
    freeze_l1: Optimisation
    freeze_l3: Optimisation
    few_shot: FewShot
    esc50: TransferTask
    dcase2019_task1a: TransferTask
    dcase2018_task2: TransferTask
    msos: TransferTask
    gtzan: TransferTask
    ravdess: TransferTask
    own_data: TransferTask


ImageNetNetwork = Literal["DenseNet201", "ResNet50", "InceptionV3"]


class DecayedOptimisation(Optimisation):
    """The same, with Adam's weight decay."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-3


class Rethinking(Settings):
    """The second paper: ImageNet's networks on mel images. The defaults are its settings, where they are known."""

    weights: Literal["local", "download"] = "local"  # whether torchvision's may be fetched where there is no file
    width: Width = 1.0  # of networks without ImageNet's weights, which need the published width
    front_end: FrontEndChanges = FrontEndChanges()
    seconds: Seconds | None = None  # of each clip that the networks see, from its beginning; all where it isn't given
    runs: Annotated[int, Field(ge=1, le=100)] = 5  # that differ by chance alone, and make up an ensemble
    folds: Folds | None = None  # test folds to run; all where it isn't given
    copies: Annotated[int, Field(ge=1, le=100)] = 3  # altered ones of each training clip, where there is augmentation
    optimisation: DecayedOptimisation
    studied: ImageNetNetwork = "DenseNet201"  # the network of the analyses
    compared: Annotated[list[ImageNetNetwork], Field(min_length=1)] = ["DenseNet201", "ResNet50", "InceptionV3"]
    stand_in: DecayedOptimisation  # on AudioSet, of the studied network where there are no ImageNet weights
    points: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000  # of a layer, that SVCCA is computed from
    urbansound8k: TransferTask  # the data set that the PANNs' paper doesn't have


class Packing(Settings):
    """How AudioSet's clips are stored."""

    shards: Annotated[int, Field(ge=1, le=1000)] = 1  # files, which are packed beside each other


class Profile(Settings):
    """All sizes of one profile."""

    name: str  # from the name of the file: the folder below runs/ and figures/
    description: Annotated[str, Field(min_length=1)]
    seed: Seed
    threads: Threads  # of every job; other numbers give other last digits
    accelerator: Accelerator
    precision: Precision
    architecture: Architecture  # of the pretrained and the transferred network
    width: Width  # multiplies every channel count of the network
    dropout: Factor = 1.0  # multiplies the published rates of dropout, which are too much for a few channels
    cache_gib: Gibibytes  # log-mels up to this size are computed once and kept
    miniatures: Miniatures
    packing: Packing = Packing()
    training: Training
    transfer: Transfer
    rethinking: Rethinking = Rethinking(
        optimisation=DecayedOptimisation(iterations=5000, batch_size=32, learning_rate=1e-4),
        stand_in=DecayedOptimisation(iterations=20_000, batch_size=32, learning_rate=1e-3),
        urbansound8k=TransferTask(seconds=4.0),
    )
    runs: dict[str, dict[str, Any]] = {}  # differences for single runs of the catalogue


def merge(base: dict, change: dict) -> dict:
    """``base`` with ``change`` laid over it, section by section; neither is altered."""
    merged = dict(base)
    for key, value in change.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def explain(error: ValidationError, where: str, model: type[Settings]) -> ProfileError:
    """The `ProfileError` that says in plain words what pydantic found while it checked a ``model``."""
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "(top level)"
        if fault["type"] == "extra_forbidden":
            lines.append(f"  {key}: there is no such setting; {_allowed_keys(model, fault['loc'])}")
        elif fault["type"] == "missing":
            lines.append(f"  {key}: is missing")
        else:
            reason = fault["msg"][0].lower() + fault["msg"][1:]
            lines.append(f"  {key}: {fault['input']!r} is not allowed; {reason}")
    return ProfileError(f"{where} is not a valid profile:\n" + "\n".join(lines) + "\nMend it and start again.")


def _allowed_keys(model: type[Settings], location: tuple) -> str:
    """The keys that the section of ``model`` at ``location`` (the unknown key last) takes."""
    section: Any = model
    for part in location[:-1]:
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        section = field.annotation if field else None
    # a profile's name is that of its file
    fields = [field for field in getattr(section, "model_fields", ()) if field != "name"]
    return "allowed are " + ", ".join(fields) if fields else "remove it"


def load(name_or_path: str | Path) -> Profile:
    """Load and check a profile.

    Args:
        name_or_path: "smoke", "demo", "gpu", "full", or the path of a YAML file.

    Raises:
        ProfileError: there is no such profile, or what it says is not allowed.
    """
    text = str(name_or_path)
    path = FOLDER / f"{text}.yaml" if text in BUILT_IN else Path(text)
    if not path.is_file():
        raise ProfileError(
            f"There is no profile {text!r}. Give one of {', '.join(BUILT_IN)}, or the path of a YAML file "
            f"(copy {FOLDER.name}/demo.yaml of the package and change its numbers)."
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as fault:
        raise ProfileError(f"{path} is not YAML: {fault}. Mend the line that it names.") from fault
    except UnicodeDecodeError as fault:
        raise ProfileError(f"{path} is not UTF-8 (byte {fault.start:,}). Save it as UTF-8.") from fault
    except OSError as fault:
        raise ProfileError(f"{path} cannot be read: {fault.strerror}. Change its permissions.") from fault
    if not isinstance(content, dict):
        raise ProfileError(f"{path} holds no settings; it must be a mapping like {FOLDER.name}/demo.yaml.")
    if "name" in content:
        raise ProfileError(f"{path}: name is not a setting; a profile is called as its file is. Remove it.")
    try:
        return Profile.model_validate({**_read_floats(content), "name": _name(path)})
    except ValidationError as error:
        raise explain(error, str(path), Profile) from None


class _Loader(yaml.SafeLoader):
    """YAML as safe_load reads it, but a key that is there twice is a fault, not a silent choice of the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (place, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice", place.start_mark)
        return super().construct_mapping(node, deep)


def _name(path: Path) -> str:
    """What a profile is called: its file's name; a user's own `demo.yaml` never takes the place of ours."""
    name = re.sub(r"[\W_]+", "-", path.stem.lower()).strip("-") or "profile"
    return f"{name}-own" if name in BUILT_IN and path.resolve().parent != FOLDER else name


def _read_floats(content: dict) -> dict:
    """Accept `1` and `1e-3` where a number may have a fraction: YAML reads the first as int, the second as str."""
    floats = {"seconds", "learning_rate", "width", "cache_gib", "share", "dropout", "longest", "weight_decay"}

    def convert(key, value):
        if isinstance(value, dict):
            return {inner: convert(inner, part) for inner, part in value.items()}
        if key in floats and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if key in floats and isinstance(value, str) and re.fullmatch(r"[0-9.]+[eE][+-]?[0-9]+", value):
            return float(value)
        return value

    return convert("", content)
