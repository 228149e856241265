"""How far the work is: a bar where somebody looks on, a small file where another process does.

In JupyterLab and on a terminal it is tqdm's bar. When a notebook is executed by ``panns execute``, a bar would
only leave a dead widget in it: then ``PANNS_PROGRESS`` names a file, which is rewritten once a second and from
which ``panns reproduce`` draws one bar for everything.
"""

import json
import os
import time
from pathlib import Path


class FileBar:
    """As much of tqdm's interface as the package uses, written to a file."""

    interval = 1.0  # seconds between two writes

    def __init__(self, path: Path, total: int, initial: int = 0, desc: str = ""):
        """Report on ``total`` steps of ``desc`` in the file ``path``."""
        self.path, self.total, self.n, self.desc, self.postfix = path, total, initial, desc, ""
        self._written = 0.0
        self._write(force=True)

    def update(self, count: int = 1) -> None:
        """``count`` more steps are done."""
        self.n += count
        self._write()

    def set_description(self, title: str) -> None:
        """What is being done now."""
        self.desc = title

    def set_postfix(self, **values: str) -> None:
        """Values to show behind the bar."""
        self.postfix = ", ".join(f"{key} {value}" for key, value in values.items())

    def close(self) -> None:
        """Nothing more will come."""
        self._write(force=True)

    def _write(self, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._written >= self.interval:
            self._written = now
            content = {"title": self.desc, "done": self.n, "total": self.total, "note": self.postfix}
            temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            temporary.write_text(json.dumps(content))
            os.replace(temporary, self.path)


def bar(total: int, title: str, initial: int = 0, unit: str = "step"):
    """A bar over ``total`` steps, ``initial`` of them done: tqdm's, or a `FileBar` (see the module)."""
    target = os.environ.get("PANNS_PROGRESS")
    if target:
        return FileBar(Path(target), total, initial, title)
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=initial, desc=title, unit=unit, mininterval=0.5)
