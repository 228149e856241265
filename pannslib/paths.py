"""Where things are: the folders of the project, each worked out once.

``PANNS_HOME`` moves everything that is written (data, runs, figures) to another folder; the notebooks and the
package stay where they are.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent
NOTEBOOKS = REPOSITORY / "notebooks"
SNAKEFILE = REPOSITORY / "Snakefile"


def home() -> Path:
    """The folder below which data, runs and figures are: ``PANNS_HOME``, else the checkout."""
    return Path(os.environ.get("PANNS_HOME") or REPOSITORY).resolve()


def default_data_root() -> Path:
    """Where one's own copies of the real data sets are looked for unless another data root is given."""
    return home() / "data"


def miniatures(profile: str) -> Path:
    """The miniature data sets of a profile, in the official layouts."""
    return home() / "data" / "miniature" / profile


def packed(profile: str) -> Path:
    """The HDF5 files that a profile's data sets were packed to."""
    return home() / "data" / "packed" / profile


def runs(profile: str) -> Path:
    """One folder a run: settings, predictions, curves, checkpoints, provenance."""
    return home() / "runs" / profile


def figures(profile: str) -> Path:
    """What readers open: tables, figures, executed notebooks, index.html."""
    return home() / "figures" / profile


def shown(path: Path) -> str:
    """A path as it is told to people: relative to the folder of the project where it is inside it."""
    path = Path(path)
    try:
        return str(path.resolve().relative_to(home()))
    except ValueError:
        return str(path)
