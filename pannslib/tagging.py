"""Use a model: which sounds are in a clip, and the embedding of a clip.

tagger = AudioTagger("Cnn14", checkpoint="released")
tagger.tag("clip.wav")  # label, probability
tagger.tag("recordings/")  # clip, label, probability
tagger.tag_windows("an_hour.flac").save("tags.txt")  # onset_s, offset_s, label, probability
"""

from numbers import Integral

import numpy as np

from pannslib.errors import ModelError
from pannslib.inference.predictor import Clip, Predictor, is_one
from pannslib.inference.tables import Results, results

WINDOW_S, STEP_S = 10.0, 5.0  # windows over long recordings are as long as AudioSet's clips, and overlap by half
LONGEST_S = 60.0  # what is longer isn't taken in one piece


class AudioTagger(Predictor):
    """Tags clips with a trained network.

    Clips are given as a path of a sound file of any format, rate, length and number of channels; a waveform (samples,)
    in [-1, 1] at the model's rate or at ``sample_rate``; an array and its rate as a tuple; a folder; or a list of such.
    A clip of up to 60 s is seen in one piece, a longer one in windows of 10 s that overlap by half, at constant memory.

    Example::

        tagger = AudioTagger("Cnn14", checkpoint="Cnn14_mAP=0.431.pth")
        tagger.tag("clip.wav", top=10)  # a DataFrame: label, probability
    """

    def tag(self, clips, top: int = 10, sample_rate: float | None = None, progress: bool | None = None) -> Results:
        """The likeliest labels of a clip or of several.

        Args:
            clips: see the class.
            top: how many labels a clip.
            sample_rate: Hz, of arrays; the model's where left out.
            progress: whether to draw a bar; where left out for more than one clip or window.

        Returns:
            For one clip a row a label: label, probability in [0, 1], the likeliest first. For a folder or list:
            clip, label, probability. Of a long clip a label has the highest probability of all windows; where one
            label alone is right (``single_label``) the mean over them.

        Raises:
            AudioError: the clip, or all of several, can't be used; it says why. Single bad clips of several are in
                the result's ``skipped``.
            ModelError: ``top`` is below 1.
        """
        _check_top(top)

        def rows(clip: Clip, bar: bool | None = False) -> list[dict]:
            return self._likeliest(self._overall(self._predictions(clip, sample_rate, bar)), top)

        if is_one(clips):
            return results(rows(clips, progress), ["label", "probability"])
        found, used = self.each(clips, rows, progress)
        return results(found, ["clip", "label", "probability"], self.skipped, used)

    def tag_windows(
        self, clips, top: int = 3, sample_rate: float | None = None, progress: bool | None = None
    ) -> Results:
        """The likeliest labels of each window of 10 s, every 5 s: onset_s, offset_s, label, probability.

        Arguments and errors are those of `tag`; several clips have their names in a first column, clip.
        """
        _check_top(top)

        def rows(clip: Clip, bar: bool | None = False) -> list[dict]:
            found = []
            samples, step = (round(seconds * self.sample_rate) for seconds in (WINDOW_S, STEP_S))
            with self.progress(clip, step, bar) as update:
                for start, waveform, _ in self.windows(clip, samples, step, sample_rate=sample_rate):
                    times = {
                        "onset_s": start / self.sample_rate,
                        "offset_s": (start + len(waveform)) / self.sample_rate,
                    }
                    probability = self._probability(self._output(waveform))
                    found += [{**times, **row} for row in self._likeliest(probability, top)]
                    update()
            return found

        columns = ["onset_s", "offset_s", "label", "probability"]
        if is_one(clips):
            return results(rows(clips, progress), columns)
        found, used = self.each(clips, rows, progress)
        return results(found, ["clip", *columns], self.skipped, used)

    def probabilities(self, clip: Clip, sample_rate: float | None = None) -> np.ndarray:
        """The probabilities of all classes, float32 (classes,), in the order of ``labels``; arguments as `tag`."""
        return self._overall(self._predictions(clip, sample_rate, None))

    def embed(self, clips, sample_rate: float | None = None, progress: bool | None = None):
        """The embedding of a clip, float32 (embedding size,); of a long one the mean over its windows.

        For a folder or list: a DataFrame with a row a clip, whose names are its index, and a column a dimension.
        Arguments and errors are those of `tag`.
        """

        def one(clip: Clip, bar: bool | None = False) -> np.ndarray:
            total, windows = 0.0, 0
            for _, embedding in self._predictions(clip, sample_rate, bar):
                total, windows = total + embedding.astype(np.float64), windows + 1
            return (total / windows).astype(np.float32)

        if is_one(clips):
            return one(clips, progress)
        rows, used = self.each(clips, lambda clip, bar: [{"embedding": one(clip, bar)}], progress)
        table = Results(
            np.stack([row["embedding"] for row in rows]),
            index=[row["clip"] for row in rows],
            columns=[f"embedding_{index}" for index in range(len(rows[0]["embedding"]))],
        )
        table.index.name, table.skipped, table.clips = "clip", self.skipped, used
        return table

    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """What the network looks at: the log-mel spectrogram, dB (frames, mel_bins), of a waveform (samples,)."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(waveform)[None].to(self._device)
            return self.model.log_mel(batch)[0, 0].cpu().numpy()

    def _output(self, waveform: np.ndarray):
        return self.engine(self.padded(waveform)[None])

    def _predictions(self, clip: Clip, sample_rate: float | None, bar: bool | None):
        """Probabilities (classes,) and embedding (embedding size,) of each window of a clip."""
        samples, step, longest = (round(seconds * self.sample_rate) for seconds in (WINDOW_S, STEP_S, LONGEST_S))
        with self.progress(clip, step, bar, longest) as update:
            for _, waveform, _ in self.windows(clip, samples, step, longest, sample_rate):
                output = self._output(waveform)
                yield self._probability(output), output.embedding[0]
                update()

    def _probability(self, output) -> np.ndarray:
        """The probabilities of a window, float32 (classes,): engines give sigmoids, of which a softmax can be made.

        The odds p / (1 - p) are the exponentials of the logits, so divided by their sum they are the softmax.
        """
        probability = output.clipwise_output[0]
        if not self.single_label:
            return probability
        probability = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-7)
        odds = probability / (1 - probability)
        return (odds / odds.sum()).astype(np.float32)

    def _overall(self, predictions) -> np.ndarray:
        """The probabilities of a clip from those of its windows."""
        windows = np.stack([probability for probability, _ in predictions])
        return windows.mean(0) if self.single_label else windows.max(0)

    def _likeliest(self, probability: np.ndarray, top: int) -> list[dict]:
        order = np.argsort(-probability, kind="stable")[:top]
        return [{"label": self.labels[index], "probability": probability[index]} for index in order]


def _check_top(top: int) -> None:
    if not isinstance(top, Integral) or top < 1:
        raise ModelError(f"top is {top!r}; it must be a whole number of 1 or more labels.")
