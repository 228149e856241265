"""What all tests and notebooks under test share: nothing is written into the checkout."""

import os
import tempfile
from pathlib import Path

import pytest

# before anything of the package is imported: everything that tests and notebooks write goes to a folder of its own
HOME = Path(tempfile.mkdtemp(prefix="pannslib-test-"))
os.environ["PANNS_HOME"] = str(HOME)
os.environ["PANNS_CACHE"] = str(HOME / "cache")
os.environ.setdefault("MPLBACKEND", "agg")

ROOT = Path(__file__).resolve().parent


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder of this test's own that data, runs and figures go to."""
    monkeypatch.setenv("PANNS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real recordings; the test is skipped where there is none."""
    folder = Path(os.environ.get("PANNS_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "raw").is_dir():
        pytest.skip("needs real recordings: set PANNS_TEST_DATA to a folder with raw/esc50 and raw/ravdess")
    return folder
