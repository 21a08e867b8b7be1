"""Every notebook runs from top to bottom, is short, and carries no outputs."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch, request):
    if "load_dataset" in path.read_text(encoding="utf-8"):
        monkeypatch.setenv("TERRACAUSAL_DATA", str(request.getfixturevalue("data_root")))
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in code_cells(path):
        exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_short_and_stripped(path):
    cells = code_cells(path)
    assert 0 < len(cells) <= 15
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    assert all(len(cell["source"]) <= 25 for cell in cells)


def test_there_are_notebooks():
    assert NOTEBOOKS
