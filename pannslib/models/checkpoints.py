"""Reading and writing weights: the authors' files and ours.

The authors' files are ``{"iteration", "model": state dict, "sampler"}`` written by ``torch.save``; ours are
safetensors, with the model's settings in the metadata. Neither can run code when it is read.
"""

import collections
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from pannslib.errors import CheckpointError
from pannslib.features import FRONT_ENDS, FrontEnd, fourier_kernels, mel_matrix
from pannslib.files import replacing
from pannslib.models.base import PannsModel
from pannslib.models.imagenet import ImageNetModel
from pannslib.models.log_mel import LogMelInput
from pannslib.models.registry import list_models, skeleton

FRONT_END_PREFIXES = ("spectrogram_extractor.", "logmel_extractor.")
# the NumPy values that the sampler's state in the authors' training files and the released 16 kHz file hold; a
# checkpoint with any other type in it is refused
_reconstruct = np.zeros(1).__reduce__()[0]
_scalar = np.int64(0).__reduce__()[0]
ALLOWED_TYPES = [
    *[_reconstruct, (_reconstruct, "numpy.core.multiarray._reconstruct")],
    *[_scalar, (_scalar, "numpy.core.multiarray.scalar")],
    np.ndarray,
    np.dtype,
    *[type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")],
    collections.OrderedDict,
]


def save_checkpoint(model: PannsModel, path: str | Path, **metadata) -> Path:
    """Write a model's weights as safetensors, all or nothing.

    The metadata are JSON: ``model``, ``classes``, ``width``, ``front_end``, and whatever is given in ``metadata``
    (labels, for instance). `read_metadata` gives them back.
    """
    settings = {
        "model": model.name,
        "classes": model.classes,
        "width": model.width,
        "front_end": dataclasses.asdict(model.front_end),
    }
    if isinstance(model, ImageNetModel):
        settings["weights"] = model.weights  # where training started from
    texts = {key: json.dumps(value) for key, value in (metadata | settings).items()}
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(Path(path)) as temporary:
        save_file(weights, temporary, metadata=texts)
        _sort_metadata(temporary)
    return Path(path)


def _sort_metadata(path: Path) -> None:
    """Put the metadata in the order of their keys, in place: safetensors writes them in another order each time.

    So equal weights have equal bytes.
    """
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # else it was written otherwise than we know, and stays as it is
            file.seek(8)
            file.write(text.ljust(length))


def read_metadata(path: str | Path) -> dict:
    """The settings that `save_checkpoint` wrote: model, classes, width, front_end (a dict), and others.

    A safetensors file that something else wrote gives an empty dict.

    Raises:
        CheckpointError: there is no such file, or it isn't a safetensors.
    """
    return _read_safetensors(Path(path), weights=False)[1]


def load_checkpoint(model: PannsModel, checkpoint: str | Path | Mapping[str, Tensor], head: bool = True) -> PannsModel:
    """Put released or own weights into a model; nothing changes in it if anything is wrong.

    Args:
        model: of the architecture, width and front end that the weights are of.
        checkpoint: a path of the authors' file or of ours, or a state dict.
        head: False keeps the model's own classifier (``model.head_names``), whose number of classes may differ.

    Returns:
        ``model``.

    Raises:
        CheckpointError: not a checkpoint, or not one of this model; it says what differs and what to use instead.
    """
    where, metadata = "The state dict", {}
    if isinstance(checkpoint, Mapping):
        weights = checkpoint
    else:
        path = Path(checkpoint)
        where = str(path)
        reader = _read_safetensors if path.suffix == ".safetensors" else _read_torch
        weights, metadata = reader(path)
    weights = model.converted(_state_dict(weights, where))
    _check_front_end(model, weights, metadata, where)
    weights = {name: value for name, value in weights.items() if not name.startswith(FRONT_END_PREFIXES)}
    kept = {} if head else {name: model.state_dict()[name] for name in model.head_names}
    if kept:
        weights = {name: value for name, value in weights.items() if not model.is_head(name)}
    weights |= kept
    _check_weights(model, weights, metadata, where)
    model.load_state_dict(weights)
    if "weights" in metadata:
        model.weights = metadata["weights"]
    return model


def _read_safetensors(path: Path, weights: bool = True) -> tuple[dict[str, Tensor], dict]:
    """The tensors (or none) and the metadata of one of our files."""
    _check_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = _settings(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()} if weights else {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} isn't a complete safetensors file: {error}. Copy it again.") from error
    return tensors, metadata


def _settings(texts: dict[str, str]) -> dict:
    """The metadata of one of our files, parsed; nothing of a foreign one, whose metadata mean something else."""
    if not {"model", "classes", "width", "front_end"} <= texts.keys():
        return {}
    return {key: json.loads(text) for key, text in texts.items()}


def _read_torch(path: Path) -> tuple[object, dict]:
    """What ``torch.save`` wrote, if it is nothing but tensors and the types allowed above."""
    _check_file(path)
    try:
        with torch.serialization.safe_globals(ALLOWED_TYPES):
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} isn't a checkpoint, or can't be read without running code that it holds. A checkpoint is a "
            ".safetensors of this package or a .pth of the authors' code, which holds tensors and NumPy's numbers "
            "alone; download it again if it should be one."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        # what torch raises for damaged archives
        raise CheckpointError(
            f"{path} isn't a complete checkpoint ({type(error).__name__}: {error}). Download or copy it again."
        ) from error


def count_classes(model: PannsModel, checkpoint: str | Path) -> int:
    """How many classes the classifier in a file of weights has; those of ``model`` where it has none by that name.

    Args:
        model: of the architecture that the weights are of, also one without weights.
        checkpoint: path of a ``.safetensors`` or ``.pth``.

    Raises:
        CheckpointError: it isn't a checkpoint.
    """
    path = Path(checkpoint)
    weights, _ = (_read_safetensors if path.suffix == ".safetensors" else _read_torch)(path)
    weights = model.converted(_state_dict(weights, str(path)))
    heads = [weights[name] for name in model.head_names if name in weights and name.endswith("bias")]
    return len(heads[0]) if heads else model.classes


def _check_file(path: Path) -> None:
    try:
        found = path.is_file()
        if found:
            with open(path, "rb"):
                pass
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}. Check its name and permissions.") from error
    if not found:
        raise CheckpointError(f"There is no checkpoint {path}. Give the path of a .safetensors or .pth file.")


def _state_dict(content: object, where: str) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, without the prefix that data-parallel training leaves."""
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    tensors = isinstance(content, Mapping) and content and all(isinstance(v, Tensor) for v in content.values())
    if not tensors:
        raise CheckpointError(
            f"{where} holds no state dict. A checkpoint is {{'model': state dict}}, or a state dict alone: names of "
            "layers and their tensors."
        )
    prefixed = all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if prefixed else name: value for name, value in content.items()}


def _check_front_end(model: PannsModel, weights: dict[str, Tensor], metadata: dict, where: str) -> None:
    """Raise unless the spectrogram that the weights were trained on is the model's."""
    ours = model.front_end
    uses_log_mel = isinstance(model, LogMelInput)
    if "front_end" in metadata:
        theirs = FrontEnd(**metadata["front_end"])
        if theirs != ours if uses_log_mel else theirs.sample_rate != ours.sample_rate:
            raise CheckpointError(
                f"{where} was trained on {theirs}, but {model.name} has {ours}. Create the model with the settings "
                "that differ, e.g. create_model(name, mel_bins=...)."
            )
    if uses_log_mel and not _same_buffers(ours, weights):
        published = [
            (rate, bins)
            for rate, front_end in FRONT_ENDS.items()
            for bins in (32, 64, 128)
            if _same_buffers(dataclasses.replace(front_end, mel_bins=bins), weights)
        ]
        hint = "; its settings are none of the published ones"
        if published:
            rate, bins = published[0]
            hint = f": it is for audio at {rate} Hz with {bins} mel bins"
        raise CheckpointError(
            f"{where} has another front end than {model.name}, which has {ours}{hint}. Use a model with the front end "
            f"of the file{_suggestion(weights)}."
        )


def _same_buffers(front_end: FrontEnd, weights: dict[str, Tensor]) -> bool:
    """Whether the front end's entries of an authors' file, as far as there are any, have these settings' values."""
    bins = front_end.window // 2 + 1
    names = ("spectrogram_extractor.stft.conv_real.weight", "spectrogram_extractor.stft.conv_imag.weight")
    shapes = dict.fromkeys(names, (bins, 1, front_end.window))
    shapes["logmel_extractor.melW"] = (bins, front_end.mel_bins)
    present = {name: shape for name, shape in shapes.items() if name in weights}
    if any(tuple(weights[name].shape) != shape for name, shape in present.items()):
        return False
    kernels = fourier_kernels(front_end.window)
    expected = {names[0]: kernels[0, :, None], names[1]: kernels[1, :, None]}
    expected["logmel_extractor.melW"] = mel_matrix(front_end)
    return all(np.allclose(weights[name].detach().float().cpu(), expected[name], rtol=0, atol=1e-5) for name in present)


def _check_weights(model: PannsModel, weights: dict[str, Tensor], metadata: dict, where: str) -> None:
    """Raise unless names, shapes and types are the model's and all values are numbers."""
    needed = model.state_dict()
    wrong = [f"{name} is missing" for name in needed if name not in weights]
    wrong += [f"{name} {tuple(weights[name].shape)} is unexpected" for name in weights if name not in needed]
    wrong += [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in needed.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if wrong:
        only_head = all(line.split(" ")[0] in model.head_names for line in wrong)
        keep = ", or keep the model's own classifier with head=False" if only_head else ""
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{where} doesn't fit {model.name} of {model.classes} classes and width {model.width:g}: "
            f"{'; '.join(wrong[:3])}{more}. Use a model that fits{_suggestion(weights, metadata)}{keep}."
        )
    for name, value in weights.items():
        if value.is_floating_point() != needed[name].is_floating_point():
            raise CheckpointError(f"{where}: {name} is {value.dtype} instead of {needed[name].dtype}.")
        if value.device.type != "meta" and not torch.isfinite(value).all():
            raise CheckpointError(f"{where}: {name} holds NaN or infinity; the file is damaged or its training failed.")


def _suggestion(weights: dict[str, Tensor], metadata: dict | None = None) -> str:
    """The model that the weights are of, in brackets: from our metadata, or the published one of these shapes."""
    if metadata:
        return " (create_model({model!r}, classes={classes}, width={width:g}))".format(**metadata)
    heads = [weights[name] for name in ("fc_audioset.bias", "att_block.att.bias") if name in weights]
    classes = len(heads[0]) if heads and heads[0].ndim == 1 and len(heads[0]) else 527
    shapes = {name: tuple(value.shape) for name, value in weights.items() if not name.startswith(FRONT_END_PREFIXES)}
    for name in list_models():
        candidate = skeleton(name, classes=classes)
        same = shapes == {key: tuple(value.shape) for key, value in candidate.state_dict().items()}
        if same and _same_buffers(candidate.front_end, weights):
            return f" (create_model({str(name)!r}, classes={classes}))"
    return ""
