"""The weights that the authors released (CC BY 4.0), fetched when they are asked for.

Files, checksums and the mAP that each should reach are in ``reference/datasets.yaml``. They are kept in a cache
folder, the system's unless ``PANNS_CACHE`` names another.
"""

import hashlib
import os
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import yaml

from pannslib import files, reference
from pannslib.errors import CheckpointError
from pannslib.models.base import PannsModel
from pannslib.models.checkpoints import load_checkpoint
from pannslib.models.registry import architecture, create_model

CHECKED = "checked.json"  # in the cache folder: what was found to be the released file
LOCK = "checksums.json"  # in the cache folder: file -> SHA-256 of what came, where the release's isn't known
TIMEOUT = 30  # seconds without a byte
CHUNK = 2**16  # bytes; what is lost at most when a transfer is cut off


def released_checkpoints() -> pd.DataFrame:
    """The released files, a row each: name, model, sample_rate, map, size, md5, sha256, url, licence.

    Sizes (bytes) and checksums that no source states are missing.
    """
    facts = yaml.safe_load((reference.FOLDER / "datasets.yaml").read_text(encoding="utf-8"))["panns_checkpoints"]
    table = pd.DataFrame([row for row in facts["files"] if row["model"]])
    urls = [facts["url_template"].format(name=quote(name)) for name in table["name"]]
    table = table.assign(url=urls, licence=facts["licence"])
    return table[["name", "model", "sample_rate", "map", "size", "md5", "sha256", "url", "licence"]]


def cache_folder() -> Path:
    """Where released weights are kept: ``PANNS_CACHE``, else the system's folder for such things."""
    if os.environ.get("PANNS_CACHE"):
        return Path(os.environ["PANNS_CACHE"])
    import pooch

    return Path(pooch.os_cache("pannslib"))


def load_pretrained(
    name: str, cache: str | Path | None = None, mirror: str | None = None, progress: bool = True
) -> PannsModel:
    """Build an architecture with its released weights, in evaluation mode; arguments as `fetch_pretrained`."""
    model = create_model(name)
    return load_checkpoint(model, fetch_pretrained(name, cache, mirror, progress)).eval()


def fetch_pretrained(
    name: str, cache: str | Path | None = None, mirror: str | None = None, progress: bool = True
) -> Path:
    """Get the released weights of an architecture, from the cache or from the network, and check them.

    A transfer that was cut off goes on where it stopped, where the release's checksum is known. Where it isn't,
    the checksum of what came is kept in ``checksums.json`` of the cache, and the file must have it from then on.

    Args:
        name: of `list_models`.
        cache: folder; `cache_folder` where left out.
        mirror: address of a folder that has the files under their names, in place of the archive.
        progress: whether to show a bar.

    Raises:
        ModelError: no such architecture.
        CheckpointError: it has no released weights; no connection; not there; not what was released.
    """
    import pooch  # a second to import with what it needs, and only downloads do

    architecture(name)
    table = released_checkpoints().set_index("model")
    if name not in table.index:
        raise CheckpointError(
            f"The authors released no weights of {name}. They did of {', '.join(table.index)}; other weights are "
            "loaded with load_checkpoint(model, path)."
        )
    row = table.loc[name]
    folder = Path(cache) if cache else cache_folder()
    url = f"{mirror.rstrip('/')}/{quote(row['name'])}" if mirror else row["url"]
    lock = folder / LOCK
    locked = files.read_json(lock) if lock.is_file() else {}
    released = _checksum(row)
    registry = {row["name"]: released or locked.get(row["name"])}
    box = pooch.create(folder, base_url="", registry=registry, urls={row["name"]: url}, retry_if_failed=1)
    part = folder / f".{row['name']}.part"
    download = partial(_download, part=part, resume=released is not None, progress=progress)
    try:
        path = Path(box.fetch(row["name"], downloader=download))
    except (ValueError, OSError) as error:  # a wrong checksum; all that requests raises is an OSError
        raise CheckpointError(_explanation(error, url, folder / row["name"])) from error
    if registry[row["name"]] is None:
        files.write_json(lock, locked | {row["name"]: f"sha256:{files.sha256(path)}"})
    return path


def check_released(path: Path) -> Path:
    """A file of the cache, if it is what the authors released under its name; the path again.

    The checksum is computed once, and remembered in the cache.

    Raises:
        CheckpointError: it is another file.
    """
    files.remembered(path, path.parent / CHECKED, _check_sum)
    return path


def _check_sum(path: Path) -> str | None:
    """The checksum of a file that the authors released, None where none is known.

    Raises:
        CheckpointError: the file has another.
    """
    row = released_checkpoints().set_index("name").loc[path.name]
    lock = path.parent / LOCK
    expected = _checksum(row) or (files.read_json(lock) if lock.is_file() else {}).get(path.name)
    if expected is None:
        return None
    kind, _, digest = expected.partition(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != digest:
        raise CheckpointError(
            f"{path} isn't the released file: its {kind} is {found}, not {digest}. Delete it, and fetch it anew: "
            f'checkpoint="released", or pannslib.load_pretrained({row["model"]!r}).'
        )
    return expected


def _checksum(row: pd.Series) -> str | None:
    """A release's checksum as pooch writes it, "sha256:..." or "md5:...", or None."""
    for kind in ("sha256", "md5"):
        if isinstance(row[kind], str):
            return f"{kind}:{row[kind]}"
    return None


def _download(url: str, output: str, _box, part: Path, resume: bool, progress: bool) -> None:
    """Download a URL to ``output`` by way of the file ``part``, which outlives a transfer that is cut off."""
    import requests
    from tqdm import tqdm

    if not resume:
        part.unlink(missing_ok=True)
    start = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            # the part is longer than the file, so that it is of another one; the retry begins anew
            part.unlink()
        response.raise_for_status()
        goes_on = response.status_code == requests.codes.partial_content
        start = start if goes_on else 0
        total = start + int(response.headers.get("Content-Length", 0)) or None
        bar = tqdm(
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            desc=part.stem.lstrip("."),
            disable=not progress,
        )
        with bar, open(part, "ab" if goes_on else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    os.replace(part, output)


def _explanation(error: Exception, url: str, path: Path) -> str:
    """What went wrong with a download, and what to do."""
    import requests

    by_hand = f"You can download {url} by other means and put it at {path}."
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        return f"The server answered {status} for {url}. Try again later, or another mirror=. {by_hand}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"The transfer of {url} was cut off. Call it again; it goes on where it can. {by_hand}"
    if isinstance(error, requests.RequestException):
        return f"{url} can't be reached ({type(error).__name__}). Is there a network? {by_hand}"
    if isinstance(error, ValueError):
        return f"{url} isn't the released file: its checksum is wrong, twice. Try another mirror=. {by_hand}"
    return f"{path} can't be written: {error}."
