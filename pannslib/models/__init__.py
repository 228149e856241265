"""The architectures of the paper: `create_model` builds one, `list_models` names them all.

One file a family: `cnn`, `resnet`, `mobilenet`, `waveform` (one-dimensional), `wavegram`, `decision_level` and
`vggish`; what they share is in `base`, `log_mel`, `layers` and `residual`. `registry` has a row for each
architecture. `checkpoints` reads and writes weights, `pretrained` fetches the released ones.
"""

from pannslib.models.base import Output, PannsModel
from pannslib.models.checkpoints import count_classes, load_checkpoint, read_metadata, save_checkpoint
from pannslib.models.pretrained import (
    cache_folder,
    check_released,
    fetch_pretrained,
    load_pretrained,
    released_checkpoints,
)
from pannslib.models.registry import create_model, list_models

__all__ = [
    "Output",
    "PannsModel",
    "cache_folder",
    "check_released",
    "count_classes",
    "create_model",
    "fetch_pretrained",
    "list_models",
    "load_checkpoint",
    "load_pretrained",
    "read_metadata",
    "released_checkpoints",
    "save_checkpoint",
]
