"""Which pretrained weights a transfer starts from, and what they say of any clip."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from pannslib import files, models
from pannslib.datasets import PackedClips
from pannslib.errors import CheckpointError

EMBEDDINGS_VERSION = 1  # of how they are computed; a change of it computes all anew


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from, and the network that they are of.

    Attributes:
        architecture: of `pannslib.list_models`; training from scratch uses the same.
        width: factor on its channels.
        checkpoint: file of the weights.
        origin: where they come from, for people.
        official: whether they were trained on AudioSet itself, as the paper's were, not on a part or a miniature.
        front_end: settings that differ from the architecture's published ones.
    """

    architecture: str
    width: float
    checkpoint: Path
    origin: str
    official: bool = False
    front_end: dict = field(default_factory=dict)

    @classmethod
    def from_path(cls, path: str | Path, architecture: str | None = None, width: float = 1.0) -> "Pretrained":
        """The weights in a file: one of ours, which says what it is of, or another of the ``architecture`` given.

        Raises:
            CheckpointError: there is no such file, or it doesn't say what it is of and nothing else does.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise CheckpointError(f"There is no checkpoint {path}. Give the path of a .safetensors or .pth file.")
        ours = models.read_metadata(path) if path.suffix == ".safetensors" else {}
        name = ours.get("model", architecture)
        if name is None:
            raise CheckpointError(f"{path} doesn't say which architecture it is of; name it, e.g. 'Cnn14'.")
        return cls(name, ours.get("width", width), path, f"the file {path.name}", front_end=ours.get("front_end", {}))

    @classmethod
    def released(cls, architecture: str) -> "Pretrained":
        """The authors' weights of an architecture, if they are in the cache: nothing is fetched unasked.

        Raises:
            CheckpointError: the authors released none, or they aren't there.
        """
        table = models.released_checkpoints()
        table = table[table["model"] == architecture]
        if table.empty:
            known = ", ".join(models.released_checkpoints()["model"].unique())
            raise CheckpointError(f"The authors released no weights of {architecture}; they did of {known}.")
        paths = [models.cache_folder() / name for name in table["name"]]
        there = next((path for path in paths if path.is_file()), None)
        if there is None:
            raise CheckpointError(
                f"The released weights of {architecture} ({paths[0].name}) aren't in {models.cache_folder()}. "
                f"pannslib.load_pretrained({architecture!r}) fetches them once; or set transfer.pretrained to run, for "
                "the network that is trained here, or to the path of a checkpoint."
            )
        return cls(architecture, 1.0, there, f"released by the authors, {there.name}", official=True)

    @cached_property
    def sha256(self) -> str:
        """Of the file of weights, hex."""
        return files.sha256(self.checkpoint)

    def new_network(self, classes: int) -> models.PannsModel:
        """The same network with random weights."""
        return models.create_model(self.architecture, classes=classes, width=self.width, **self.front_end)

    def network(self, classes: int) -> models.PannsModel:
        """The pretrained network below a new random classifier of ``classes``."""
        return models.load_checkpoint(self.new_network(classes), self.checkpoint, head=False)

    def record(self) -> dict:
        """What provenance says of the weights."""
        return {
            "origin": self.origin,
            "architecture": self.architecture,
            "width": self.width,
            "sha256": self.sha256,
        }


def content_of(packed: PackedClips) -> str:
    """Sixteen hex digits that stand for the sound that is packed: the files' bytes, their order, rate and length."""
    sounds = [packed.fingerprint]
    if packed.report_path.is_file():
        report = packed.clips_report
        sounds = report.loc[report["status"] == "ok", "sha256"].tolist()
    return files.digest([list(packed.names), sounds, packed.sample_rate, list(packed.waveforms.shape)])


def embeddings(packed: PackedClips, pretrained: Pretrained, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The embedding of every row of ``packed``, float32 (rows, embedding size): computed once and kept on the disk.

    The file's name stands for the weights and the sound, so that other weights or other clips never find it, and a
    copy of both does.

    Args:
        compute: makes them where they aren't there yet.
    """
    key = files.digest([EMBEDDINGS_VERSION, pretrained.record() | {"origin": None}, content_of(packed)])
    path = packed.path.parent / "embeddings" / f"{packed.path.stem}_{key}.npy"
    if path.is_file():
        try:
            found = np.load(path, allow_pickle=False)
            if found.ndim == 2 and len(found) == len(packed.names):
                return found
        except (ValueError, OSError, EOFError):
            pass  # damaged: made again below
    made = compute()
    with files.replacing(path) as temporary:
        np.save(temporary, made)
    return made
