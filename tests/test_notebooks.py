"""The notebooks as files: parameters, no outputs, and one for every job of the catalogue."""

import re

import nbformat
import pytest

from pannslib import catalogue, paths

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def parameters(notebook) -> str:
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    return tagged[0].source


def test_every_job_has_its_notebook_and_every_notebook_its_job():
    assert {path.stem for path in NOTEBOOKS} == {job.notebook for job in catalogue.JOBS.values()}


def test_parameters_are_plain_values_with_a_comment_each(notebook):
    lines = parameters(notebook).splitlines()
    assert all(re.fullmatch(r'\w+ = ("[^"]*"|[\d.]+|True|False)  # .+', line) for line in lines)


def test_the_defaults_are_the_quick_profile(notebook):
    assert 'profile = "smoke"' in parameters(notebook)


def test_what_a_job_injects_is_a_parameter_of_its_notebook():
    for job in catalogue.JOBS.values():
        source = parameters(nbformat.read(paths.NOTEBOOKS / f"{job.notebook}.ipynb", as_version=4))
        for name in ("profile", "data_root", "allow_missing", *job.parameters):
            assert f"{name} = " in source, (job.name, name)


def test_notebooks_are_kept_without_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "papermill" not in notebook.metadata


def test_notebooks_hold_prose_and_no_functions(notebook):
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(prose) >= 4
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.M) for cell in notebook.cells)
