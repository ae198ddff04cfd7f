"""The notebooks of configs/examples: their cells run, in order, on this machine."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "configs" / "examples").glob("*.ipynb"))


def _cells(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_notebooks_were_executed_in_order_without_errors():
    assert {path.stem for path in NOTEBOOKS} == {"own_data", "sentence_encoder"}
    for path in NOTEBOOKS:
        assert [cell["execution_count"] for cell in _cells(path)] == list(range(1, len(_cells(path)) + 1))
        assert not any(out["output_type"] == "error" for cell in _cells(path) for out in cell["outputs"])
        assert "/tmp" not in path.read_text() and "/home" not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in _cells(path):
        exec(compile("".join(cell["source"]), path.name, "exec"), names)
    assert names["job"].report.is_file() and names["job"]["parity"].startswith("parity passed")
