"""The loop: one visible function (`fit`) that AudioSet tagging (section IV of the paper) and transfer (V) share.

It counts iterations, not epochs, and can write all that a resumed run needs, so that a run that was killed ends
with the same weights, bit for bit, as one that wasn't.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pannslib import features, files, progress
from pannslib.datasets.disk import told_of_full_disk
from pannslib.errors import ResultError
from pannslib.profiles import Optimisation
from pannslib.training import devices

WARM_UP = 0.2  # share of a one-cycle schedule in which the rate rises
PREDICTION_BATCH = 32  # clips at once in evaluation
SEAL = b"\nsha256 "  # and the checksum of all before it, at the end of a state
KEPT = "what was written before is kept"  # of a run whose disk is full
LOG_EVERY = 10  # iterations that a point of the loss curve is the mean of


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
        output: a model's output, or logits (batch, classes).
        targets: (batch, classes) in [0, 1]; fractions after mixup.
    """
    return F.binary_cross_entropy_with_logits(logits_of(output).float(), targets)


def classification_loss(output, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of one class a clip (section V; the softmax takes the place of the sigmoid).

    Args:
        output: a model's output, or logits (batch, classes).
        targets: (batch, classes), rows that add up to 1.
    """
    return F.cross_entropy(logits_of(output).float(), targets)


def logits_of(output) -> torch.Tensor:
    """The logits (batch, classes) of a model's output; a plain classifier's output is its logits."""
    return output if isinstance(output, torch.Tensor) else output.logits


@dataclass
class State:
    """Where a run is: all that is written to a checkpoint and needed to go on.

    Attributes:
        losses: a row every `LOG_EVERY` iterations and at the last: iteration, loss (mean since the row before),
            learning_rate.
        curve, class_ap, class_auc: what an evaluation notes, see `runs`.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    sampler: object  # of `datasets.samplers`
    mixup: np.random.Generator
    iteration: int = 0
    curve: list[dict] = field(default_factory=list)
    losses: list[dict] = field(default_factory=list)
    class_ap: list[list[float]] = field(default_factory=list)
    class_auc: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0  # spent on steps, evaluation aside
    _pending: list[float] = field(default_factory=list)  # losses since the last point of the curve

    def save(self, path: Path) -> None:
        """Write everything, atomically, random generators included; with several processes the first one does.

        Processes have generators and samplers of their own, whose states are gathered.
        """
        own = {
            "sampler": self.sampler.state(),
            "mixup": json.dumps(self.mixup.bit_generator.state),
            "torch_random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        rank, size = devices.world()
        processes = [own]
        if size > 1:
            processes = [None] * size
            torch.distributed.all_gather_object(processes, own)
        content = {
            "model": _plain(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "processes": processes,
            "iteration": self.iteration,
            "curve": self.curve,
            "losses": self.losses,
            "pending": self._pending,
            "class_ap": self.class_ap,
            "class_auc": self.class_auc,
            "seconds": self.seconds,
        }
        if rank == 0:
            with told_of_full_disk(path, KEPT), files.replacing(path) as temporary:
                with open(temporary, "wb") as file:  # by which the system's errors are known
                    torch.save(content, file)
                _seal(temporary)

    def restore(self, path: Path) -> None:
        """Go on from a file that `save` wrote; `ResultError` if it is damaged or of another network."""
        rank, size = devices.world()
        try:
            _check_seal(path)
            content = torch.load(path, weights_only=True, map_location="cpu")
            _check_shapes(content["model"], self.model)
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            if len(content["processes"]) != size:
                raise ValueError(f"{len(content['processes'])} processes wrote it, and now there are {size}")
            own = content["processes"][rank]
            self.sampler.restore(own["sampler"])
            self.mixup.bit_generator.state = json.loads(own["mixup"])
            torch.set_rng_state(own["torch_random"])
            if own["cuda_random"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(own["cuda_random"])
            self.iteration, self.seconds, self._pending = (content[key] for key in ("iteration", "seconds", "pending"))
            self.curve, self.losses = content["curve"], content["losses"]
            self.class_ap, self.class_auc = content["class_ap"], content["class_auc"]
        except Exception as fault:  # whatever is in the file: it isn't a state of this run
            raise ResultError(
                f"{path} can't be gone on from: {_first_line(fault)}. Delete it to train from the start."
            ) from fault

    def note(self, loss: float, rate: float, last: bool = False) -> float | None:
        """Take down the loss of a step; the mean of the last ones, when a point of the curve is full or at the end."""
        self._pending.append(loss)
        if self.iteration % LOG_EVERY and not last:
            return None
        mean = float(np.mean(self._pending))
        self._pending = []
        self.losses.append({"iteration": self.iteration, "loss": mean, "learning_rate": rate})
        return mean


def _seal(path: Path) -> None:
    """Write the checksum of a file behind what is in it, where torch doesn't look."""
    checksum = files.sha256(path)
    with open(path, "ab") as file:
        file.write(SEAL + checksum.encode())


def _check_seal(path: Path) -> None:
    """ValueError unless a file ends with the checksum of the rest."""
    end = len(SEAL) + 64
    with open(path, "rb") as file:
        left = max(0, os.fstat(file.fileno()).st_size - end)
        digest = hashlib.sha256()
        while block := file.read(min(left, 1 << 20)):
            digest.update(block)
            left -= len(block)
        seal = file.read(end)
    if not seal.startswith(SEAL):
        raise ValueError("it isn't whole: the checksum at its end is not there")
    if seal != SEAL + digest.hexdigest().encode():
        raise ValueError("it is damaged: it doesn't have the checksum that was written with it")


def _plain(state: dict) -> dict:
    """A state dict whose values are tensors alone."""
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _check_shapes(stored: dict, model: torch.nn.Module) -> None:
    """ValueError unless the tensors of a checkpoint are those of the model: names, shapes, types."""
    wanted = model.state_dict()
    if set(stored) != set(wanted):
        name = min(set(stored) ^ set(wanted))
        raise ValueError(f"it is of another architecture ({name} is {'not ' if name in wanted else ''}in it)")
    for name, tensor in wanted.items():
        if stored[name].shape != tensor.shape:
            raise ValueError(
                f"it is of another network ({name} is {tuple(stored[name].shape)}, here {tuple(tensor.shape)})"
            )


def _first_line(fault: Exception) -> str:
    return (str(fault) or type(fault).__name__).strip().splitlines()[0].rstrip(".")


class Stopped(KeyboardInterrupt):
    """Ctrl-C came in training: the step was finished and everything written before it stopped."""


@contextmanager
def _stop_request():
    """A flag that Ctrl-C raises instead of breaking a step off; a second Ctrl-C breaks it off."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number, frame):
        if asked.is_set() and callable(before):
            before(number, frame)
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


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
    *,
    log: Callable[[int, dict], None] | None = None,
    stop: Callable[[State], None] | None = None,
) -> None:
    """Train ``state.model`` from where the state is to the last iteration.

    Args:
        fabric: a Fabric that has set up the state's model and optimiser.
        batch: clip indices (n,) -> the model's input by argument name.
        targets: (all clips, classes), bool or numbers, on the model's device.
        optimisation: iterations, batch size, rate, schedule, mixup, parts of a batch.
        loss_of: (output, targets) -> scalar loss.
        names: of all clips, to say which were in a batch that went wrong.
        evaluate: called with the state every ``evaluate_every`` iterations and after the last.
        bar: a `progress.bar` that every iteration is told to; one of its own where it isn't given.
        log: called with the iteration and its numbers (loss, learning_rate, clips_per_s) at each row of the losses.
        stop: called with the state after Ctrl-C, when the step is finished, before `Stopped` is raised; without
            it Ctrl-C breaks off at once, as anywhere.

    Raises:
        ResultError: the loss is not a finite number; it names the iteration and the clips.
        Stopped: Ctrl-C, where ``stop`` is given.
    """
    own = progress.bar(optimisation.iterations, "training", state.iteration) if bar is None else None
    bar = own if bar is None else bar
    with _stop_request() if stop else nullcontext() as asked:
        while state.iteration < optimisation.iterations:
            began = time.perf_counter()
            state.model.train()
            rate = learning_rate(optimisation, state.iteration)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            loss = _step(fabric, state, batch, targets, optimisation, loss_of, names)
            state.iteration += 1
            state.seconds += time.perf_counter() - began
            bar.update()
            last = state.iteration == optimisation.iterations
            mean = state.note(loss, rate, last)
            if mean is None and not state.losses:
                bar.set_postfix(loss=f"{loss:.3f}")
            if mean is not None:
                speed = state.iteration * optimisation.batch_size / state.seconds
                bar.set_postfix(**{"loss": f"{mean:.3f}", "clips/s": f"{speed:,.0f}"})
                if log:
                    log(state.iteration, {"loss": mean, "learning_rate": rate, "clips_per_s": speed})
            if evaluate and (last or state.iteration % evaluate_every == 0):
                evaluate(state)
            if asked is not None and not last and _any_asked(asked):
                stop(state)
                raise Stopped(f"stopped at iteration {state.iteration:,} of {optimisation.iterations:,}")
    if own is not None:
        own.close()


def _any_asked(asked: threading.Event) -> bool:
    """Whether Ctrl-C came, here or, with several processes, at any of them: they stop at the same iteration."""
    if devices.world()[1] == 1:
        return asked.is_set()
    flag = torch.tensor(float(asked.is_set()))
    if torch.distributed.get_backend() == "nccl":
        flag = flag.cuda()
    torch.distributed.all_reduce(flag)
    return bool(flag.item())


def _step(fabric, state: State, batch, targets, optimisation: Optimisation, loss_of, names) -> float:
    """One optimiser step on this process's share of the batch, in parts; returns the mean loss."""
    parts = optimisation.accumulate
    size = optimisation.batch_size // (devices.world()[1] * parts)
    state.optimizer.zero_grad(set_to_none=True)
    losses = []
    for part in range(parts):
        indices = state.sampler.draw(size * (2 if optimisation.mixup else 1))
        target = targets[torch.from_numpy(indices).to(targets.device)].float()
        arguments = batch(indices)
        if optimisation.mixup:
            # lambda from Beta(1, 1), one a pair: section IV-B1
            weights = np.repeat(state.mixup.beta(1.0, 1.0, size=size), 2)
            weights[1::2] = 1 - weights[1::2]
            arguments["mixup_lambda"] = torch.from_numpy(weights).to(target)
            target = features.mixup(target, arguments["mixup_lambda"])
        more = part < parts - 1
        # gradients of processes are averaged once a step, with its last part
        with fabric.no_backward_sync(state.model, enabled=more) if more else nullcontext():
            loss = loss_of(state.model(**arguments), target)
            _check_finite(loss, state, indices, names)
            fabric.backward(loss / parts if parts > 1 else loss)
        losses.append(loss.item())
    state.optimizer.step()
    return float(np.mean(losses))


def _check_finite(loss: torch.Tensor, state: State, indices: np.ndarray, names: Sequence[str]) -> None:
    if not torch.isfinite(loss):
        raise ResultError(
            f"The loss is {loss.item()} at iteration {state.iteration + 1}. The batch's clips are: "
            f"{', '.join(names[index] for index in indices)}. Look for damaged clips among "
            "them, or lower the learning rate."
        )


@torch.no_grad()
def predict(model, batch: Callable, indices: np.ndarray, part_of: Callable = logits_of) -> np.ndarray:
    """What ``part_of`` takes of the model's output for the clips ``indices``, in evaluation mode.

    Returns:
        float32 (clips, classes) for the logits; with ``part_of=lambda output: output.embedding`` the embeddings.
    """
    model.eval()
    batches = np.array_split(indices, max(1, math.ceil(len(indices) / PREDICTION_BATCH)))
    return torch.cat([part_of(model(**batch(clips))).float().cpu() for clips in batches]).numpy()
