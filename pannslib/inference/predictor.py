"""What tagging and detection share: weights, labels and engine; which clips are meant; windows over long recordings."""

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from pannslib import __version__, audio, files, models, reference
from pannslib.errors import AudioError, CheckpointError, ModelError
from pannslib.inference import engines
from pannslib.models.base import PannsModel
from pannslib.models.registry import architecture, skeleton

Clip = str | Path | np.ndarray | tuple[np.ndarray, float]
BIG = 64 * 2**20  # bytes of a checkpoint whose engine files are made by another process
PREPARING = "PANNS_PREPARING"  # set in that process
RELEASED, RANDOM = "released", "random"
# what a folder is searched for; libsndfile decodes these
SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64"}


class Predictor:
    """A network with its weights, labels and engine, and how clips get to it.

    Attributes:
        labels: tuple of the classes' names, of the user's task or of AudioSet's ontology.
        sample_rate: Hz, of the waveforms that the network takes.
        engine: what computes, see `pannslib.inference.engines`.
        single_label: whether exactly one of the labels is right, so that probabilities add up to 1.
        skipped: dict of the clips of the last call that couldn't be used -> why.
    """

    DEFAULT = "Cnn14"  # the network whose released weights are meant where nothing is said

    def __init__(
        self,
        model: str | PannsModel | None = None,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        precision: str = "fp32",
        engine: str = "auto",
        labels: Sequence[str] | None = None,
    ):
        """Load a network and its weights.

        Args:
            model: an architecture of `pannslib.list_models`, which may be left out where the checkpoint is one of
                ours, which says what it is of, or where released weights are meant (`DEFAULT`'s); or a model with the
                weights that it is to have.
            checkpoint: a ``.safetensors`` that this package wrote or the folder of a run that has one; a ``.pth`` that
                the authors released; "released" to download the released weights of ``model`` once; "random" for
                random weights, which is for measuring speed alone. None for the released weights if they have been
                downloaded before.
            device: "cpu", "cuda", or "auto" for CUDA where there is some.
            precision: "fp32"; "bf16" (network only; the front end always computes in float32); "tf32" on a GPU; or
                "auto": bf16 where the processor or GPU is faster in it. On a processor that isn't, bf16 is computed in
                float32 unless an engine is named.
            engine: what computes: "auto" for the fastest that is installed, "torch" for plain PyTorch, or another of
                `pannslib.inference.engines.ENGINES`.
            labels: names of the classes in their order; where left out, those in the checkpoint, AudioSet's where
                there are 527, else "class 0", "class 1", ...

        Raises:
            ModelError: a device, precision or engine that there isn't; not as many labels as classes.
            CheckpointError: no checkpoint is given, or it isn't one of this architecture.
        """
        self.skipped: dict[str, str] = {}
        self._device = device_of(device)
        precision = engines.precision_for(precision, self._device, engine)
        if model is None and checkpoint in (None, RELEASED):
            model = self.DEFAULT
        self._given = model if isinstance(model, PannsModel) else None
        self._checkpoint = None if self._given is not None else _checkpoint_of(model, checkpoint)
        ours = {}
        if self._checkpoint is not None and self._checkpoint.suffix == ".safetensors":
            ours = models.read_metadata(self._checkpoint)
        # a model of one's own data whose clips have a label each is trained with a softmax, see `transfer.final_model`
        self.single_label = ours.get("activation") == "softmax"
        if self._given is None:
            name = model or ours.get("model")
            if name is None:
                raise CheckpointError(
                    f"{checkpoint} doesn't say which architecture it is of; give model=, e.g. 'Cnn14'."
                )
            self._name = str(name)
            classes = ours.get("classes") or _classes_in(self._name, self._checkpoint)
            self._options = {"classes": classes, "width": ours.get("width", 1.0), **ours.get("front_end", {})}
            self._settings = skeleton(self._name, **self._options)
        else:
            self._settings = self._given
        self.labels = _labels(ours.get("labels") if labels is None else labels, self._settings.classes)
        self.precision = precision
        self.sample_rate = self._settings.sample_rate
        self._check_model()
        # a wrong engine, precision or checkpoint is told now
        self.engine = self._make_engine(engine)

    def _check_model(self) -> None:
        """Raise `ModelError` where the model can't do what is wanted of it."""

    @cached_property
    def model(self) -> PannsModel:
        """The network with its weights, in evaluation mode; loaded when it is first asked for."""
        if self._given is not None:
            return self._given.eval()
        network = models.create_model(self._name, **self._options)
        if self._checkpoint is not None:
            models.load_checkpoint(network, self._checkpoint)
        return network.to(self._device).eval()

    def _make_engine(self, engine: str):
        """The engine; its file is kept by the checkpoint's SHA-256, and for a moment only where there is no file."""
        make = partial(
            engines.create,
            lambda: self.model,
            self._settings,
            device=self._device,
            precision=self.precision,
            engine=engine,
        )
        if self._checkpoint is not None and self._device == "cpu" and engine in ("auto", *engines.RUNTIMES):
            folder = models.cache_folder() / "engines"
            key = f"{engines.key_of(self._checkpoint, folder)}-{files.digest([self._options, __version__])[:6]}"
            if self._is_big() and not self._is_prepared(engine, key, folder):
                self._prepare(engine)
            return make(key=key, folder=folder)
        with tempfile.TemporaryDirectory() as folder:
            return make(key="given", folder=Path(folder))

    def _is_big(self) -> bool:
        return self._checkpoint.stat().st_size > BIG and PREPARING not in os.environ

    def _is_prepared(self, engine: str, key: str, folder: Path) -> bool:
        """Whether the graph that will be computed is there; with none to come there is nothing to prepare."""
        name = engines.choose(self._settings, self._device, self.precision, engine)
        if name not in engines.RUNTIMES:
            return True
        return engines.graph_file(name, self._settings, key, folder, self.precision).is_file()

    def _prepare(self, engine: str) -> None:
        """Let another process write the engine's files, which for a moment takes several times the weights' memory.

        Whatever goes wrong there goes wrong, and is told, here as well.
        """
        engines.explain(f"preparing {self._settings.name} for this processor, once for these weights ...")
        code = "import sys; from pannslib.tagging import AudioTagger as T; T(*sys.argv[1:3], 'cpu', *sys.argv[3:])"
        call = [sys.executable, "-c", code, self._settings.name, str(self._checkpoint), self.precision, engine]
        subprocess.run(call, env=os.environ | {PREPARING: "1"}, capture_output=True, check=False)

    # --- clips ---------------------------------------------------------------------------------------------------

    def blocks(self, clip: Clip, sample_rate: float | None = None) -> Iterator[np.ndarray]:
        """The waveform of a clip at the model's rate, float32 (samples,) block by block.

        Raises:
            AudioError: the file or array can't be used; it says why.
        """
        if isinstance(clip, tuple) and len(clip) == 2:
            clip, sample_rate = clip
        if isinstance(clip, np.ndarray):
            floating = np.issubdtype(clip.dtype, np.floating)
            if clip.ndim != 1 or not clip.size or not floating or not np.isfinite(clip.sum(dtype=np.float64)):
                raise AudioError(
                    f"The array is {clip.dtype} {clip.shape}; a waveform must be float (samples,) in [-1, 1], at least "
                    f"one sample, all of them finite, at {self.sample_rate:,} Hz or the rate that is given with it. "
                    "Divide int16 by 32768, take the mean of channels."
                )
            rate = self.sample_rate if sample_rate is None else sample_rate
            yield audio.resample(clip.astype(np.float32), rate, self.sample_rate)
            return
        if not isinstance(clip, str | os.PathLike):
            raise AudioError(
                f"A clip is a {type(clip).__name__}; it must be a path, an array (samples,), or an array and its rate."
            )
        yield from audio.stream(clip, self.sample_rate)

    def windows(
        self, clip: Clip, samples: int, step: int, longest: int | None = None, sample_rate: float | None = None
    ) -> Iterator[tuple[int, np.ndarray, bool]]:
        """A clip in overlapping windows, at constant memory.

        Args:
            clip: as everywhere.
            samples: of a window.
            step: samples from one window's start to the next's.
            longest: clips of at most so many samples come in one piece.
            sample_rate: Hz, of an array.

        Yields:
            where the window starts (samples), its waveform float32 (samples,), which at the clip's end may be shorter
            but never lies wholly in what the window before has shown, and whether it is the last one.
        """
        longest = max(longest or samples, samples)
        held, start, whole = np.zeros(0, np.float32), 0, True
        for block in self.blocks(clip, sample_rate):
            held = np.concatenate([held, block]) if len(held) else block
            while len(held) > longest or (not whole and len(held) > samples):
                whole = False
                yield start, held[:samples], False
                held, start = held[step:], start + step
        yield start, held, True

    def padded(self, waveform: np.ndarray) -> np.ndarray:
        """A waveform of a second at least, and of what the network needs: short clips get silence at their end."""
        least = max(self.sample_rate, self._settings.least_samples)
        return audio.fit_length(waveform, max(len(waveform), least))

    def each(
        self, clips, what: Callable[[Clip, bool | None], list[dict]], progress: bool | None = None
    ) -> tuple[list[dict], list[str]]:
        """Rows of all clips, each with the clip's name first, and the names of the clips that could be used.

        What can't be used is noted in ``skipped``, and a warning says how many. The bar is over the clips, or over the
        windows of a single one.

        Raises:
            AudioError: none of the clips can be used.
        """
        named, self.skipped = named_clips(clips)
        rows, alone = [], len(named) == 1
        with _bar(1 if alone else len(named), "clips", False if alone else progress) as update:
            for name, clip in named:
                try:
                    rows += [{"clip": name, **row} for row in what(clip, progress if alone else False)]
                except AudioError as fault:
                    self.skipped[name] = str(fault)
                update()
        used = [name for name, _ in named if name not in self.skipped]
        if not used:
            faults = list(self.skipped.values())
            more = f"\n... and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise AudioError("\n".join(faults[:3]) + more)
        if self.skipped:
            count = len(self.skipped)
            warnings.warn(
                f"{count} of {len(used) + count} clips couldn't be used; .skipped of the result says why.", stacklevel=4
            )
        return rows, used

    def progress(self, clip: Clip, step: int, progress: bool | None, longest: int = 0):
        """A bar over the windows of a clip, if it is longer than ``longest`` samples (see `_bar`)."""
        samples = 0
        if progress is not False and isinstance(clip, str | os.PathLike):
            samples = audio.info(clip).seconds * self.sample_rate
        return _bar(max(1, round(samples / step)) if samples > longest else 1, "windows", progress)


def is_one(clips) -> bool:
    """Whether what was given is a single clip: a path of no folder, an array, or an array and its rate."""
    if isinstance(clips, tuple):
        return len(clips) == 2 and isinstance(clips[0], np.ndarray) and np.isscalar(clips[1])
    return isinstance(clips, np.ndarray) or (isinstance(clips, str | os.PathLike) and not _is_folder(clips))


def _is_folder(path: str | os.PathLike) -> bool:
    """Whether there is a folder; a name that no file system takes is told where the clip is read."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def named_clips(clips) -> tuple[list[tuple[str, Clip]], dict[str, str]]:
    """The clips of a folder (with all folders in it), or of a list of paths, folders and arrays, each with a name.

    Returns:
        names and clips; and the folders that can't be used -> why.

    Raises:
        AudioError: an empty list, or something else than a list.
    """
    if is_one(clips) or isinstance(clips, str | os.PathLike):
        clips = [clips]
    if not isinstance(clips, Iterable) or hasattr(clips, "detach"):  # a tensor is a list of numbers
        raise AudioError(
            f"Clips are a {type(clips).__name__}; give a path, a folder, a NumPy array, or a list of them."
        )
    named: list[tuple[str, Clip]] = []
    unusable: dict[str, str] = {}
    for number, clip in enumerate(clips):
        if isinstance(clip, str | os.PathLike):
            found = folder_clips(Path(clip), unusable) if _is_folder(clip) else [clip]
            named += [(str(path), path) for path in found]
        else:
            named.append((f"array {number}", clip))
    if not named and not unusable:
        raise AudioError("The list of clips is empty; give at least one.")
    return named, unusable


def folder_clips(folder: Path, unusable: dict[str, str]) -> list[Path]:
    """All sound files of a folder and the folders in it, sorted; what can't be used is put down in ``unusable``."""
    before = len(unusable)

    def note(error: OSError):
        unusable[str(error.filename)] = f"{error.filename} can't be read: {error.strerror}. Change its permissions."

    found = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, onerror=note)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    if not found and len(unusable) == before:
        unusable[str(folder)] = (
            f"{folder} has no sound files ({', '.join(sorted(SUFFIXES))}), nor have the folders in it. Give another "
            "folder, or files."
        )
    return sorted(found)


def _classes_in(name: str, checkpoint: Path | None) -> int:
    """How many classes a file that doesn't say so has: as its classifier; AudioSet's where it is a released one."""
    if checkpoint is None or checkpoint.name in set(models.released_checkpoints()["name"]):
        return len(reference.class_labels())
    return models.count_classes(skeleton(name), checkpoint)


def _labels(given: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """The names of the classes: those that are given, AudioSet's, or numbers."""
    if given is not None:
        if len(given) != classes:
            raise ModelError(f"{len(given)} labels are given, but the network has {classes} classes. Give a name each.")
        return tuple(map(str, given))
    ontology = tuple(reference.class_labels()["display_name"])
    return ontology if classes == len(ontology) else tuple(f"class {index}" for index in range(classes))


@contextmanager
def _bar(total: int, unit: str, progress: bool | None):
    """A function to call after each of ``total`` steps; a bar is drawn where ``progress`` or there are some steps."""
    wanted = total > 1 if progress is None else progress
    if not wanted:
        yield lambda: None
        return
    from pannslib.progress import bar

    drawn = bar(total, "listening", unit=unit.removesuffix("s"))
    try:
        yield lambda: drawn.update(1)
    finally:
        drawn.close()


def device_of(name: str) -> str:
    """ "cpu" or "cuda"; ModelError where there is no such device."""
    import torch

    there = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if name == "auto":
        return there[-1]
    if name not in there:
        raise ModelError(f"device is {name!r}; on this machine it can be auto or {' or '.join(there)}.")
    return name


def _checkpoint_of(model: str | None, checkpoint: str | Path | None) -> Path | None:
    """The file of weights that is meant; None for random ones."""
    if checkpoint == RANDOM:
        if model is None:
            raise CheckpointError("Random weights need to know of which architecture: give model=, e.g. 'Cnn14'.")
        return None
    if checkpoint == RELEASED:
        if model is None:
            raise CheckpointError("Released weights of which architecture? Give model=, e.g. 'Cnn14'.")
        return models.fetch_pretrained(model)
    if checkpoint is None:
        if model is not None:
            architecture(model)
        found = _released_in_cache(model)
        if found is None:
            raise CheckpointError(
                "A tagger or detector needs trained weights: give checkpoint=, the path of a .safetensors that a "
                "training run left (below runs/ after `make reproduce`) or of a .pth that the authors released "
                f"(https://zenodo.org/records/3987831); pannslib.load_pretrained({model or 'Cnn14'!r}) or "
                'checkpoint="released" downloads the latter once and checks it. Random weights would only give random '
                "answers."
            )
        return found
    path = Path(checkpoint)
    return path / "checkpoint.safetensors" if _is_folder(path) else path


def _released_in_cache(name: str | None) -> Path | None:
    """The released weights of an architecture, if they have been fetched; nothing is fetched unasked."""
    released = models.released_checkpoints()
    there = [models.cache_folder() / file for file in released.loc[released["model"] == name, "name"]]
    return next((models.check_released(path) for path in there if path.is_file()), None)
