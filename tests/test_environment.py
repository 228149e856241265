"""pyproject.toml, constraints.txt and environment.yml name the same packages and versions."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pins}


@pytest.fixture(scope="module")
def required() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [normal(re.split(r"[\s\[<>=!~;]", entry)[0]) for group in lists for entry in group]


@pytest.fixture(scope="module")
def conda() -> list[str]:
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    return next(entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict))


def test_all_requirements_are_pinned(required, constraints):
    assert [name for name in required if name not in constraints] == []
    assert constraints["torch"] == "2.13.0"


def test_conda_installs_the_same_versions(required, constraints, conda):
    assert "-c constraints.txt" in conda
    assert "--editable ." in conda
    pins = {normal(name): version for name, version in (line.split("==") for line in conda if "==" in line)}
    assert pins == {name: constraints[name] for name in required}


def test_the_packages_that_the_project_is_built_on_are_required(required):
    fixed = {"torch", "torchlibrosa", "librosa", "jupyterlab", "papermill"}
    fixed |= {"pandas", "matplotlib", "seaborn", "h5py", "nbval"}
    assert fixed <= set(required)


def test_this_environment_has_the_pinned_versions(constraints):
    for name, version in constraints.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # some are for other systems only
        assert installed.split("+")[0] == version, name
