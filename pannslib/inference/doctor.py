"""What `panns doctor` finds: packages, the machine, weights, folders; and how to get what is missing."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path

import psutil

from pannslib import __version__, paths
from pannslib.inference.engines import (
    FASTEST,
    GET_FAST,
    RUNTIMES,
    can_run,
    choose,
    has_bf16,
    packages_of,
    processor_flags,
)

EXAMPLES = ("Cnn14", "MobileNetV1", "Wavegram_Logmel_Cnn14")  # whose engines are told
EXTRAS = {"fast": "several times faster on a CPU", "imagenet": "ImageNet's networks", "notebooks": "the notebooks"}


def examine() -> dict:
    """All that is known, as a JSON-like record: package, machine, packages, engines, weights, missing."""
    import torch

    from pannslib.models.registry import skeleton

    memory = psutil.virtual_memory().total / 2**30
    flags = processor_flags()
    packages = _packages()
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    device = "cuda" if gpus else "cpu"
    engines = {
        name: can_run(name) and all(map(_loads, packages_of(name)))
        for name in ("torch", "folded", "compile", *RUNTIMES)
    }
    engines["compile"] = bool(gpus) or shutil.which("g++") is not None
    weights, folder = _weights()
    return {
        "package": {"version": __version__, "python": platform.python_version(), "folder": str(paths.PACKAGE)},
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": round(memory, 1),
            "bf16": has_bf16(),
            "amx": "amx_bf16" in flags,
            "avx512": "avx512f" in flags,
            "gpus": gpus,
            "free_disk_gib": round(shutil.disk_usage(_existing(paths.home())).free / 2**30, 1),
        },
        "packages": packages,
        "engines": engines,
        "chosen": {
            precision: {name: choose(skeleton(name), device, precision) for name in EXAMPLES}
            for kind, precision in FASTEST
            if kind == device
        },
        "weights": {"folder": str(folder), "files": weights},
        "home": str(paths.home()),
        "missing": _missing(packages, engines, weights, gpus),
    }


def text(found: dict) -> str:
    """The record for people."""
    machine, package = found["machine"], found["package"]
    lines = [
        f"pannslib {package['version']}, Python {package['python']}, {package['folder']}",
        f"machine   {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB memory, "
        f"{machine['free_disk_gib']} GiB free at {found['home']}",
        f"bf16      {'yes' if machine['bf16'] else 'no'}{', AMX' if machine['amx'] else ''}"
        f"{', AVX-512' if machine['avx512'] else ''}",
        f"GPU       {', '.join(machine['gpus']) or 'none'}",
        f"engines   {', '.join(f'{name} {_yes(there)}' for name, there in found['engines'].items())}",
        f"chosen    {'; '.join(f'{precision}: {_chosen(names)}' for precision, names in found['chosen'].items())}",
        f"weights   {', '.join(found['weights']['files']) or 'none'} in {found['weights']['folder']}",
        "packages  " + ", ".join(f"{row['name']} {row['version']}" for row in found["packages"] if row["version"]),
    ]
    if found["missing"]:
        lines += ["", "missing", *[f"  {row['what']}: {row['how']}" for row in found["missing"]]]
    return "\n".join(lines)


def _chosen(names: dict[str, str]) -> str:
    return ", ".join(f"{engine} for {model}" for model, engine in names.items())


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def _packages() -> list[dict]:
    """Each requirement of the package: name, version ("" where it isn't there), extra, whether it is needed."""
    try:
        requirements = importlib.metadata.requires("pannslib") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    rows = []
    for requirement in requirements:
        name = re.split(r"[\s\[<>=!~;]", requirement)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        rows.append({"name": name, "version": version, "extra": extra[1] if extra else "", "needed": extra is None})
    return rows


def _missing(packages: list[dict], engines: dict, weights: list[str], gpus: list[str]) -> list[dict]:
    rows = []
    for row in packages:
        if not row["version"]:
            extra = f"[{row['extra']}]" if row["extra"] else ""
            use = f" ({EXTRAS[row['extra']]})" if row["extra"] in EXTRAS else ""
            rows.append(
                {"what": f"{row['name']}{use}", "how": f"pip install 'pannslib{extra}', or make env in a checkout"}
            )
    if not any(engines[name] for name in RUNTIMES):
        rows.append({"what": "a graph engine", "how": GET_FAST})
    if not engines["compile"]:
        rows.append({"what": "a C++ compiler, for engine=compile alone", "how": "your system's package g++"})
    if not weights:
        rows.append({"what": "released weights", "how": "panns tag clip.wav --model Cnn14 --checkpoint released"})
    if not gpus:
        rows.append(
            {"what": "a GPU that PyTorch can use", "how": "not needed to use models; training AudioSet takes one"}
        )
    if sys.platform == "linux" and not has_bf16():
        how = "a processor of Intel's with AMX, or of AMD's with AVX512-BF16; fp32 works everywhere"
        rows.append({"what": "a processor that is faster in bf16", "how": how})
    return rows


def _loads(package: str) -> bool:
    """Whether a package is there and can be imported: one that is of another machine or broken can't."""
    try:
        importlib.import_module(package)
    except Exception:  # whatever a broken package raises
        return False
    return True


def _weights() -> tuple[list[str], Path]:
    from pannslib.models.pretrained import cache_folder, released_checkpoints

    folder = cache_folder()
    try:
        return [name for name in released_checkpoints()["name"] if (folder / name).is_file()], folder
    except OSError as fault:
        return [f"can't be read ({fault.strerror})"], folder


def _processor() -> str:
    from pannslib.results import hardware

    return hardware()["processor"]


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
