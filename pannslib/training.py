"""Training: one visible loop, moved between devices and precisions by Lightning Fabric.

The loop (`fit`) is shared by AudioSet tagging (section IV of the paper) and by the transfer tasks (section V).
It counts iterations, not epochs, and can write all that a resumed run needs, so that a run that was killed ends
with the same weights, bit for bit, as one that wasn't.
"""

import json
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from pannslib import features, files, metrics, models, progress
from pannslib.catalogue import PRETRAINING, MachineSettings, Plan
from pannslib.datasets import PackedClips
from pannslib.datasets.samplers import BalancedSampler, ShuffledSampler
from pannslib.errors import ModelError, ProfileError, ResultError
from pannslib.profiles import Optimisation
from pannslib.results import RunFolder, evidence_of, open_run

WARM_UP = 0.2  # share of a one-cycle schedule in which the rate rises
PREDICTION_BATCH = 32  # clips at once in evaluation


def set_up(fabric, network: torch.nn.Module, optimisation: Optimisation):
    """The network and its Adam on the Fabric's device; the authors' settings: amsgrad, betas 0.9 and 0.999.

    Two-dimensional convolutions are about twice as fast with their channels last, on CPUs too.
    """
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=optimisation.learning_rate, amsgrad=True)
    return fabric.setup(network, optimizer)


def make_fabric(settings: MachineSettings, seed: int):
    """A Fabric for the settings' device and precision, with torch seeded and its threads set.

    Returns:
        lightning_fabric.Fabric, one device.

    Raises:
        ProfileError: CUDA is asked for and there is none.
    """
    from lightning_fabric import Fabric

    if settings.accelerator == "cuda" and not torch.cuda.is_available():
        raise ProfileError(
            "The profile asks for CUDA (accelerator: cuda), but torch finds no GPU here. Use a profile with "
            "accelerator: cpu or auto, such as demo."
        )
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(seed)
    return Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)


class ClipSource:
    """The clips of a packed data set as a model's input, on the model's device.

    Where the model takes a log-mel spectrogram alone and all of them fit into ``cache_gib``, they are computed
    once and kept; else the waveforms are read and the model's front end runs each time.
    """

    def __init__(self, packed: PackedClips, model, cache_gib: float, device: torch.device):
        if packed.sample_rate != model.sample_rate:
            raise ModelError(
                f"{model.name} hears sound at {model.sample_rate:,} Hz, but the clips are packed at "
                f"{packed.sample_rate:,} Hz. Choose an architecture for that rate, such as Cnn14."
            )
        self.packed = packed
        self.device = device
        self._log_mels = None
        if model.takes_log_mel and self._log_mel_gib(model) <= cache_gib:
            self._log_mels = self._compute(model)

    def _log_mel_gib(self, model) -> float:
        frames = self.packed.waveforms.shape[1] // model.front_end.hop + 1
        return len(self) * frames * model.front_end.mel_bins * 4 / 2**30

    @torch.no_grad()
    def _compute(self, model, batch_size: int = 64) -> torch.Tensor:
        parts = np.array_split(np.arange(len(self)), math.ceil(len(self) / batch_size))
        return torch.cat([model.log_mel(self._waveforms(indices)) for indices in parts])

    def __len__(self) -> int:
        return len(self.packed.names)

    def _waveforms(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.packed.read(indices)).to(self.device)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """The input of the model for these clips, by the name of its argument (`waveform` or `log_mel`)."""
        if self._log_mels is None:
            return {"waveform": self._waveforms(indices)}
        return {"log_mel": self._log_mels[torch.from_numpy(np.asarray(indices)).to(self.device)]}


def learning_rate(optimisation: Optimisation, iteration: int) -> float:
    """The learning rate at an iteration (from 0).

    "constant" is the paper's; "one_cycle" rises to the peak in the first fifth and falls to nearly 0 along half a
    cosine, which gets further in the few steps that a small profile has.
    """
    if optimisation.schedule == "constant":
        return optimisation.learning_rate
    progress = (iteration + 1) / optimisation.iterations
    if progress < WARM_UP:
        return optimisation.learning_rate * progress / WARM_UP
    fall = (progress - WARM_UP) / (1 - WARM_UP)
    return optimisation.learning_rate * max(0.5 * (1 + math.cos(math.pi * fall)), 1e-3)


def tagging_loss(output, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy over all clips and classes (equation 1 of the paper).

    Args:
        output: a model's output.
        targets: (batch, classes) in [0, 1]; fractions after mixup.
    """
    return F.binary_cross_entropy_with_logits(output.logits.float(), targets)


def classification_loss(output, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of one class a clip (section V; the softmax takes the place of the sigmoid).

    Args:
        output: a model's output, or logits (batch, classes).
        targets: (batch, classes), rows that add up to 1.
    """
    return F.cross_entropy(logits_of(output).float(), targets)


@dataclass
class State:
    """Where a run is: all that is written to a checkpoint and needed to go on."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    sampler: ShuffledSampler | BalancedSampler
    mixup: np.random.Generator
    iteration: int = 0
    curve: list[dict] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything, atomically, random generators included."""
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state(),
            "mixup": json.dumps(self.mixup.bit_generator.state),
            "torch_random": torch.get_rng_state(),
            "iteration": self.iteration,
            "curve": self.curve,
        }
        with files.replacing(path) as temporary:
            torch.save(content, temporary)

    def restore(self, path: Path) -> None:
        """Go on from a file that `save` wrote; `ResultError` if it is damaged or of another network."""
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, OSError, KeyError, pickle.UnpicklingError) as fault:
            raise ResultError(f"{path} can't be gone on from: {fault}. Delete it to train from the start.") from fault
        self.sampler.restore(content["sampler"])
        self.mixup.bit_generator.state = json.loads(content["mixup"])
        torch.set_rng_state(content["torch_random"])
        self.iteration = content["iteration"]
        self.curve = content["curve"]


def fit(
    fabric,
    state: State,
    batch: Callable[[np.ndarray], dict[str, torch.Tensor]],
    targets: torch.Tensor,
    optimisation: Optimisation,
    loss_of: Callable,
    names: Sequence[str],
    evaluate: Callable[[State], None] | None = None,
    evaluate_every: int = 0,
    bar=None,
) -> None:
    """Train ``state.model`` from where the state is to the last iteration.

    Args:
        fabric: a Fabric that has set up the state's model and optimiser.
        batch: clip indices (n,) -> the model's input by argument name.
        targets: (all clips, classes) float32 on the model's device.
        optimisation: iterations, batch size, rate, schedule, mixup.
        loss_of: (output, targets) -> scalar loss.
        names: of all clips, to say which were in a batch that went wrong.
        evaluate: called with the state every ``evaluate_every`` iterations and after the last.
        bar: a `progress.bar` that every iteration is told to; one of its own where it isn't given.

    Raises:
        ResultError: the loss is not a finite number; it names the iteration and the clips.
    """
    own = progress.bar(optimisation.iterations, "training", state.iteration) if bar is None else None
    bar = own if bar is None else bar
    while state.iteration < optimisation.iterations:
        state.model.train()
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(optimisation, state.iteration)
        loss = _step(fabric, state, batch, targets, optimisation, loss_of, names)
        state.iteration += 1
        bar.update()
        if state.iteration % 10 == 0:
            bar.set_postfix(loss=f"{loss:.3f}")
        last = state.iteration == optimisation.iterations
        if evaluate and (last or state.iteration % evaluate_every == 0):
            evaluate(state)
    if own is not None:
        own.close()


def _step(fabric, state: State, batch, targets, optimisation: Optimisation, loss_of, names) -> float:
    """One optimiser step; returns the loss."""
    size = optimisation.batch_size * (2 if optimisation.mixup else 1)
    indices = state.sampler.draw(size)
    target = targets[torch.from_numpy(indices).to(targets.device)]
    arguments = batch(indices)
    if optimisation.mixup:
        # lambda from Beta(1, 1), one a pair: section IV-B1
        weights = np.repeat(state.mixup.beta(1.0, 1.0, size=optimisation.batch_size), 2)
        weights[1::2] = 1 - weights[1::2]
        arguments["mixup_lambda"] = torch.from_numpy(weights).to(targets)
        target = features.mixup(target, arguments["mixup_lambda"])
    loss = loss_of(state.model(**arguments), target)
    if not torch.isfinite(loss):
        raise ResultError(
            f"The loss is {loss.item()} at iteration {state.iteration + 1}. The batch's clips are: "
            f"{', '.join(names[index] for index in indices)}. Look for damaged clips among "
            "them, or lower the learning rate."
        )
    state.optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    state.optimizer.step()
    return loss.item()


def logits_of(output) -> torch.Tensor:
    """The logits (batch, classes) of a model's output; a plain classifier's output is its logits."""
    return output if isinstance(output, torch.Tensor) else output.logits


@torch.no_grad()
def predict(model, batch: Callable, indices: np.ndarray, part_of: Callable = logits_of) -> np.ndarray:
    """What ``part_of`` takes of the model's output for the clips ``indices``, in evaluation mode.

    Returns:
        float32 (clips, classes) for the logits; with ``part_of=lambda output: output.embedding`` the embeddings.
    """
    model.eval()
    batches = np.array_split(indices, max(1, math.ceil(len(indices) / PREDICTION_BATCH)))
    return torch.cat([part_of(model(**batch(clips))).float().cpu() for clips in batches]).numpy()


@dataclass(frozen=True)
class TrainingResult:
    """What an AudioSet run leaves.

    Attributes:
        run: its folder.
        curve: a row an evaluation: iteration, mAP, mAUC and d-prime on the evaluation set.
        classes: a row a class: label, training clips, evaluation clips, AP, AUC.
        chance: mAP of a system that guesses (the mean share of positives).
    """

    run: RunFolder
    curve: pd.DataFrame
    classes: pd.DataFrame
    chance: float

    @property
    def checkpoint(self) -> Path:
        """The final weights, as `models.load_checkpoint` takes them."""
        return self.run.file("checkpoint.safetensors")


def run(plan: Plan, name: str = PRETRAINING) -> TrainingResult:
    """Train the network of a catalogue run on AudioSet (or Mini-AudioSet), or read what was trained before.

    A run that was stopped goes on from its last evaluation.
    """
    folder = open_run(plan, name)
    result = folder.file("classes.csv")
    if not (result.is_file() and folder.file("provenance.json").is_file()):
        _train(plan, name, folder)
    classes = pd.read_csv(result)
    evaluated = classes["evaluation_clips"].sum() / len(classes)
    chance = evaluated / _evaluation_clips(plan)
    return TrainingResult(folder, pd.read_csv(folder.file("curve.csv")), classes, float(chance))


def _evaluation_clips(plan: Plan) -> int:
    return int((plan.dataset("audioset").clips["split"] == "eval").sum())


def _train(plan: Plan, name: str, folder: RunFolder) -> None:
    """Train the run and write its checkpoint, curve, class-wise scores and provenance."""
    settings = plan.settings(name)
    packed = plan.packed("audioset", progress=True)
    split = plan.dataset("audioset").clips.set_index("clip")["split"].loc[packed.names].to_numpy()
    training, evaluation = np.flatnonzero(split != "eval"), np.flatnonzero(split == "eval")

    fabric = make_fabric(settings, plan.seed(name))
    classes = len(packed.classes)
    network = models.create_model(settings.architecture, classes=classes, width=settings.width)
    model, optimizer = set_up(fabric, network, settings.optimisation)
    source = ClipSource(packed, network, settings.cache_gib, fabric.device)
    targets = torch.from_numpy(packed.targets.astype(np.float32)).to(fabric.device)
    sampler_seed = plan.seed(name, "sampler")
    sampler = (
        BalancedSampler(packed.targets, training, sampler_seed)
        if settings.balanced
        else ShuffledSampler(training, sampler_seed)
    )
    state = State(model, optimizer, sampler, np.random.default_rng(plan.seed(name, "mixup")))
    checkpoint = folder.file("state.pt")
    resumed = checkpoint.is_file()
    if resumed:
        state.restore(checkpoint)

    def evaluate(state: State) -> None:
        logits = predict(state.model, source.batch, evaluation)
        scores = metrics.evaluate(packed.targets[evaluation], logits)
        state.curve.append({"iteration": state.iteration, **{k: scores[k] for k in ("map", "mauc", "d_prime")}})
        state.save(checkpoint)

    optimisation = settings.optimisation
    names, every = packed.names, settings.evaluate_every
    fit(fabric, state, source.batch, targets, optimisation, tagging_loss, names, evaluate, every)

    logits = predict(model, source.batch, evaluation)
    scores = metrics.evaluate(packed.targets[evaluation], logits)
    models.save_checkpoint(network, folder.file("checkpoint.safetensors"), labels=list(packed.classes))
    table = pd.DataFrame(
        {
            "label": packed.classes,
            "training_clips": packed.targets[training].sum(0),
            "evaluation_clips": packed.targets[evaluation].sum(0),
            "ap": scores["ap"],
            "auc": scores["auc"],
        }
    )
    files.write_text(folder.file("curve.csv"), pd.DataFrame(state.curve).to_csv(index=False))
    files.write_text(folder.file("classes.csv"), table.to_csv(index=False))
    folder.write_provenance(evidence_of(plan, name), resumed)
    checkpoint.unlink()  # the final weights are kept in checkpoint.safetensors
