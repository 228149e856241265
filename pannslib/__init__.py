"""A companion to *PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition*.

Kong, Cao, Iqbal, Wang, Wang and Plumbley, IEEE/ACM TASLP 28 (2020), 2880-2894, arXiv:1912.10211.

The names below are the public ones. Each is imported when it is first used, so that ``import pannslib``
costs next to nothing and no command loads torch that doesn't need it.
"""

from importlib import import_module

__version__ = "0.1.0"

# public name -> the module that it lives in; None: the name is itself a module
_PUBLIC = {
    "create_model": "pannslib.models",
    "list_models": "pannslib.models",
    "load_checkpoint": "pannslib.models",
    "load_pretrained": "pannslib.models",
    "AudioTagger": "pannslib.tagging",
    "SoundEventDetector": "pannslib.detection",
    "PannsError": "pannslib.errors",
    "audio": None,
    "catalogue": None,
    "complexity": None,
    "datasets": None,
    "detection": None,
    "explorer": None,
    "features": None,
    "metrics": None,
    "models": None,
    "profiles": None,
    "reference": None,
    "report": None,
    "results": None,
    "rethinking": None,
    "tagging": None,
    "training": None,
    "transfer": None,
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pannslib' has no attribute {name!r}")
    module = _PUBLIC[name]
    value = import_module(f"pannslib.{name}") if module is None else getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
