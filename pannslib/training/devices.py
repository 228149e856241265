"""Where a training runs: one process or many, on which device, in which precision. All of it is Lightning Fabric's.

Under `torchrun` every process takes a share of each batch; alone, a process takes all of it.
"""

from __future__ import annotations

import os

import numpy as np
import torch

from pannslib.catalogue import MachineSettings
from pannslib.errors import ProfileError
from pannslib.profiles import Optimisation


def world() -> tuple[int, int]:
    """The number of this process among those that torchrun started, and how many there are: (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def make_fabric(settings: MachineSettings, seed: int, unused_parameters: bool = False):
    """A Fabric for the settings' device and precision, with torch seeded and its threads set.

    Args:
        settings: device, precision, threads.
        seed: of torch; each process draws from one of its own.
        unused_parameters: whether the network has parameters that its forward pass never uses, which processes that
            train together have to be told.

    Returns:
        lightning_fabric.Fabric: one device, or under torchrun one a process with DDP.

    Raises:
        ProfileError: CUDA is asked for and there is none.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    if settings.accelerator == "cuda" and not torch.cuda.is_available():
        raise ProfileError(
            "The profile asks for CUDA (accelerator: cuda), but torch finds no GPU here. Use a profile with "
            "accelerator: cpu or auto, such as demo."
        )
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    size = world()[1]
    if size == 1:
        fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    else:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
        strategy = DDPStrategy(find_unused_parameters=unused_parameters)
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=here,
            num_nodes=size // here,
            strategy=strategy,
            precision=settings.precision,
        )
        fabric.launch()
    torch.manual_seed(seed)
    return fabric


def check_batch(optimisation: Optimisation, where: str) -> None:
    """`ProfileError` unless a step's batch can be divided evenly between the processes and their parts."""
    parts = world()[1] * optimisation.accumulate
    if optimisation.batch_size % parts:
        raise ProfileError(
            f"{where}: a step's batch of {optimisation.batch_size} clips can't be divided evenly into "
            f"{world()[1]} processes with {optimisation.accumulate} parts each (optimisation.accumulate). Make "
            f"batch_size a multiple of {parts}, or start fewer processes."
        )


def set_up(fabric, network: torch.nn.Module, optimisation: Optimisation):
    """The network and its Adam on the Fabric's device; the authors' settings: amsgrad, betas 0.9 and 0.999.

    Two-dimensional convolutions are about twice as fast with their channels last, on CPUs too.
    """
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=optimisation.learning_rate, amsgrad=True)
    return fabric.setup(network, optimizer)


def agree(network: torch.nn.Module) -> None:
    """Give all processes the first one's batch norm statistics, which each has gathered on clips of its own."""
    if world()[1] > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)


def gather(rows: np.ndarray, count: int) -> np.ndarray:
    """Put together what each process has computed of `count` rows, of which it had every `world`-th; on all of them."""
    size = world()[1]
    if size == 1:
        return rows
    parts: list = [None] * size
    torch.distributed.all_gather_object(parts, rows)
    whole = np.empty((count, *rows.shape[1:]), rows.dtype)
    for rank, part in enumerate(parts):
        whole[rank::size] = part
    return whole


def say_to_all(value):
    """What the first process knows, on all of them."""
    if world()[1] == 1:
        return value
    content = [value]
    torch.distributed.broadcast_object_list(content, 0)
    return content[0]
