"""The tables that come out: pandas DataFrames that save themselves as CSV, JSON or Audacity labels."""

import json
import re
from pathlib import Path

import pandas as pd

from pannslib import files
from pannslib.errors import PannsError

SUFFIXES = (".csv", ".json", ".txt")
LONGEST_NAME = 200  # bytes of a file's name that is made from a clip's


class Results(pd.DataFrame):
    """A DataFrame, with ``save`` and ``skipped``.

    Attributes:
        skipped: dict of the clips that couldn't be used -> why.
        clips: the names of all clips of several that could, those too that have no rows; None where there was one.
    """

    _metadata = ["skipped", "clips"]  # noqa: RUF012 (a list, as pandas adds to it)

    @property
    def _constructor(self):
        return Results

    def save(self, path: str | Path) -> Path:
        """Write the table, all or nothing: ``.csv``, ``.json`` (a list of rows) or ``.txt`` (labels for Audacity).

        Audacity's labels need times, so a table of events or of windows. Where it has more than one clip, ``path`` is a
        folder that gets a file a clip.

        Raises:
            PannsError: another suffix, or a table without times for Audacity.
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise PannsError(f"{path}: a table is saved as {', '.join(SUFFIXES)} (.txt: Audacity's labels).")
        named = self.reset_index() if self.index.name else self
        if path.suffix == ".csv":
            return files.write_text(path, named.to_csv(index=False))
        if path.suffix == ".json":
            return files.write_text(path, to_json(named))
        if not {"onset_s", "offset_s"} <= set(self.columns):
            raise PannsError(
                f"{path}: Audacity's labels have times, but these are tags of whole clips. Save them as .csv or .json, "
                "or take the events of a SoundEventDetector or the tags of windows (tag_windows)."
            )
        if "clip" not in self or len(self._clips()) < 2:
            return files.write_text(path, audacity(self))
        folder = path.with_suffix("")
        for number, clip in enumerate(self._clips()):
            name = files.shortened(re.sub(r"[^\w.-]+", "_", Path(str(clip)).name), LONGEST_NAME)
            files.write_text(folder / f"{number:04d}_{name}.txt", audacity(self[self["clip"] == clip]))
        return folder

    def _clips(self) -> list[str]:
        """The clips of a table of several; of one that was made of another, those that have rows."""
        asked = getattr(self, "clips", None)
        return list(dict.fromkeys(self["clip"])) if asked is None else asked


def results(
    rows: dict | list, columns: list[str], skipped: dict[str, str] | None = None, clips: list[str] | None = None
) -> Results:
    """A table with these columns, also where it has no rows; of several clips with their names."""
    table = Results(rows, columns=columns)
    table.skipped, table.clips = skipped or {}, clips
    return table


def to_json(table: pd.DataFrame) -> str:
    """A list of rows, UTF-8, one row a line."""
    rows = json.loads(table.to_json(orient="records", double_precision=6))
    return "[\n" + ",\n".join(f" {json.dumps(row, ensure_ascii=False)}" for row in rows) + "\n]\n"


def audacity(events: pd.DataFrame) -> str:
    """Onset and offset in seconds and a label a line, parted by tabs: what Audacity's File > Import > Labels reads."""
    lines = [
        f"{row.onset_s:.6f}\t{row.offset_s:.6f}\t{row.label} {row.probability:.2f}\n" for row in events.itertuples()
    ]
    return "".join(lines)
