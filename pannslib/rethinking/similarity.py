"""How much two layers are alike: singular vector canonical correlation analysis (Raghu et al. 2017, arXiv:1706.05806).

A layer is described by what it puts out for the same clips: a cloud of points, one axis a channel. Two layers are alike
if one cloud is the other, turned and scaled: SVCCA keeps the directions in which a cloud is widest, and takes the mean
of the canonical correlations between the two sets of directions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn

from pannslib.errors import ModelError

VARIANCE = 0.99  # share of a layer's variance that its directions keep
POINTS_PER_DIRECTION = 10  # with fewer, even unrelated layers are correlated
LEAST_POINTS = 2 * POINTS_PER_DIRECTION


def svcca(first: np.ndarray, second: np.ndarray, variance: float = VARIANCE) -> float:
    """The mean canonical correlation of two layers, in [0, 1]: 1 for a layer with itself, low for unrelated ones.

    Args:
        first, second: (points, channels of the layer), float, the same points in the same order.
        variance: the directions that are kept have at least this share of the variance, in (0, 1]; there are never
            more of them than a tenth of the points.

    Raises:
        ModelError: another number of points, fewer than 20, numbers that aren't finite, or a layer that never changes.
    """
    arrays = [np.asarray(values, np.float64) for values in (first, second)]
    if any(values.ndim != 2 for values in arrays) or len(arrays[0]) != len(arrays[1]):
        raise ModelError(
            "SVCCA takes two layers (points, channels) of the same points, not "
            f"{arrays[0].shape} and {arrays[1].shape}."
        )
    if len(arrays[0]) < LEAST_POINTS:
        raise ModelError(f"SVCCA has {len(arrays[0])} points; it needs {LEAST_POINTS} at least.")
    if not 0 < variance <= 1:
        raise ModelError(f"SVCCA's variance is {variance}; it is a share above 0, at most 1.")
    bases = [_directions(values, variance) for values in arrays]
    # the bases are orthonormal, so that the canonical correlations are the singular values of their product
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    return float(np.clip(correlations, 0, 1).mean())


def _directions(values: np.ndarray, variance: float) -> np.ndarray:
    """The widest directions of a cloud (points, channels): orthonormal columns (points, directions)."""
    if not np.isfinite(values).all():
        raise ModelError("SVCCA: a layer's values hold NaN or infinity.")
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    if not sizes.size or sizes[0] <= 1e-12 * max(1.0, np.abs(values).max()):
        raise ModelError("SVCCA: a layer puts out the same for all points; there is nothing to compare.")
    shares = np.cumsum(sizes**2) / np.sum(sizes**2)
    enough = int(np.searchsorted(shares, variance - 1e-12) + 1)
    # directions of nothing but rounding don't count
    enough = min(enough, int((sizes > 1e-10 * sizes[0]).sum()))
    return left[:, : max(1, min(enough, len(values) // POINTS_PER_DIRECTION))]


@torch.no_grad()
def activations(
    model: nn.Module, batch: Callable, indices: np.ndarray, points: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """What every convolution of a network puts out for some clips, in evaluation mode.

    A point is a clip at one place of the layer's image. The same clips and places are drawn for every network with
    layers of the same sizes.

    Args:
        batch: indices -> the network's input by argument name.
        indices: of the clips.
        points: how many are drawn of each layer, at most.
        seed: of the drawing.

    Returns:
        name of the layer -> float32 (points, channels).
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    batches = np.array_split(np.asarray(indices), max(1, -(-len(indices) // 32)))
    each = -(-points // len(indices))  # places a clip
    state: dict[str, np.random.Generator] = {}

    def note(name: str):
        def hook(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            values = output.flatten(2).transpose(1, 2)  # (clips, places, channels)
            generator = state.setdefault(name, np.random.default_rng(seed))
            for clip in values:
                chosen = generator.permutation(len(clip))[:each]
                parts[name].append(clip[torch.from_numpy(chosen).to(clip.device)].float().cpu().numpy())

        return hook

    handles = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    was_training = model.training
    model.eval()
    try:
        for clips in batches:
            model(**batch(clips))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return {name: np.concatenate(values)[:points] for name, values in parts.items() if values}


def change_of_layers(
    before: nn.Module, after: nn.Module, batch: Callable, indices: np.ndarray, points: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """SVCCA of every convolution before and after training, in running order.

    Returns:
        A row a layer: layer, channels, points, svcca, and chance: the SVCCA of the same values in an order by chance,
        which an unrelated layer would have. Layers that can't be compared have neither.
    """
    earlier = activations(copy.deepcopy(before), batch, indices, points, seed)
    later = activations(after, batch, indices, points, seed)
    shuffle = np.random.default_rng(seed)
    rows = []
    for name in earlier:
        first, second = earlier[name], later[name]
        # narrow layers may be dead, and a short clip has few places
        alive = first.std() > 0 and second.std() > 0 and len(first) >= LEAST_POINTS
        rows.append(
            {
                "layer": name,
                "channels": first.shape[1],
                "points": len(first),
                "svcca": svcca(first, second) if alive else np.nan,
                "chance": svcca(first, shuffle.permutation(second)) if alive else np.nan,
            }
        )
    return pd.DataFrame(rows)
