"""Use a model: which sounds are in a clip, and the embedding of a clip."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pannslib import audio, models, reference
from pannslib.errors import AudioError, CheckpointError, ModelError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class AudioTagger:
    """Tags clips with a trained network.

    Example::

        tagger = AudioTagger("Cnn14", checkpoint="Cnn14_mAP=0.431.pth")
        tagger.tag("clip.wav", top=10)  # a DataFrame: label, probability
    """

    def __init__(
        self,
        model: str | None = None,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        precision: str = "fp32",
    ):
        """Load a network and its weights.

        Args:
            model: an architecture of `pannslib.list_models`; may be left out where the checkpoint is one of ours,
                which says what it is of.
            checkpoint: a ``.safetensors`` that this package wrote, or a ``.pth`` that the authors released; None for
                the released weights of ``model``, if `pannslib.load_pretrained` has fetched them before.
            device: "cpu", "cuda", or "auto" for CUDA where there is some.
            precision: "fp32" or "bf16" (network only; the front end always computes in float32).

        Raises:
            ModelError: a device or precision that there isn't.
            CheckpointError: no checkpoint is given, or it isn't one of this architecture.
        """
        checkpoint = checkpoint or _released_in_cache(model)
        if checkpoint is None:
            raise CheckpointError(
                "A tagger needs trained weights: give checkpoint=, the path of a .safetensors that a training run left "
                "(runs/<profile>/train_cnn14/checkpoint.safetensors after `make reproduce`) or of a .pth that the "
                "authors released (https://zenodo.org/records/3987831); "
                f"pannslib.load_pretrained({model or 'Cnn14'!r}) fetches the latter once. Random weights "
                "would only give random tags."
            )
        if precision not in PRECISIONS:
            raise ModelError(f"precision is {precision!r}; it can be {' or '.join(PRECISIONS)}.")
        ours = models.read_metadata(checkpoint) if Path(checkpoint).suffix == ".safetensors" else {}
        name = model or ours.get("model")
        if name is None:
            raise CheckpointError(f"{checkpoint} doesn't say which architecture it is of; give model=, e.g. 'Cnn14'.")
        self.labels = tuple(ours.get("labels") or reference.class_labels()["display_name"])
        self.device = torch.device(_device(device))
        settings = ours.get("front_end", {})
        network = models.create_model(name, classes=len(self.labels), width=ours.get("width", 1.0), **settings)
        models.load_checkpoint(network, checkpoint)
        self.model = network.to(self.device).eval()
        self.precision = PRECISIONS[precision]

    @torch.inference_mode()
    def _output(self, clip: str | Path | np.ndarray):
        if isinstance(clip, np.ndarray):
            floating = np.issubdtype(clip.dtype, np.floating)
            if clip.ndim != 1 or not clip.size or not floating or not np.isfinite(clip).all():
                raise AudioError(
                    f"The array is {clip.dtype} {clip.shape}; a waveform must be float (samples,) in [-1, 1], at least "
                    f"one sample, all of them finite, at {self.model.sample_rate:,} Hz. Divide int16 by 32768."
                )
            waveform = clip.astype(np.float32)
        else:
            waveform = audio.load(clip, sample_rate=self.model.sample_rate)
        # a second at least: shorter clips are padded with silence, as the paper does with short clips
        waveform = audio.fit_length(waveform, max(len(waveform), self.model.sample_rate))
        batch = torch.from_numpy(waveform)[None].to(self.device)
        reduced = self.precision is not torch.float32
        with torch.autocast(self.device.type, self.precision, enabled=reduced):
            return self.model(batch)

    def tag(self, clip: str | Path | np.ndarray, top: int = 10) -> pd.DataFrame:
        """The likeliest labels of a clip.

        Args:
            clip: path of a sound file of any rate, length and number of channels, or a waveform (samples,) in [-1, 1]
                at the model's sample rate.
            top: how many labels.

        Returns:
            A row a label: label, probability in [0, 1], the likeliest first.

        Raises:
            AudioError: the file can't be used; it says why.
            ModelError: ``top`` is below 1.
        """
        if top < 1:
            raise ModelError(f"top is {top}; it must be 1 or more labels.")
        probability = self._output(clip).clipwise_output[0].float().cpu().numpy()
        order = np.argsort(-probability, kind="stable")[:top]
        return pd.DataFrame({"label": [self.labels[index] for index in order], "probability": probability[order]})

    @torch.inference_mode()
    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """What the network looks at: the log-mel spectrogram, dB (frames, mel_bins), of a waveform (samples,)."""
        batch = torch.from_numpy(waveform)[None].to(self.device)
        return self.model.log_mel(batch)[0, 0].cpu().numpy()

    def embed(self, clip: str | Path | np.ndarray) -> np.ndarray:
        """The embedding of a clip: float32 (embedding size,). Arguments and errors are those of `tag`."""
        return self._output(clip).embedding[0].float().cpu().numpy()


def _released_in_cache(name: str | None) -> Path | None:
    """The released weights of an architecture, if they have been fetched; nothing is fetched unasked."""
    released = models.released_checkpoints()
    files = [models.cache_folder() / file for file in released.loc[released["model"] == name, "name"]]
    return next((path for path in files if path.is_file()), None)


def _device(name: str) -> str:
    there = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if name == "auto":
        return there[-1]
    if name not in there:
        raise ModelError(f"device is {name!r}; on this machine it can be auto or {' or '.join(there)}.")
    return name
