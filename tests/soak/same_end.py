"""Whether two runs ended with the same bits."""

import json
from pathlib import Path

import jax
import numpy as np

from codir_jax.convert import pretrained


def assert_same_end(one: Path, two: Path) -> None:
    """Checkpoints array by array, metrics, the best model, the results."""
    ours, theirs = _final_state(one), _final_state(two)
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_array_equal(array, theirs[path], err_msg=path)
    lines = [(folder / "metrics.jsonl").read_text() for folder in (one, two)]
    assert lines[0] == lines[1]
    names = [[path.name for path in sorted((folder / "checkpoints").iterdir())] for folder in (one, two)]
    assert names[0] == names[1]
    models = [pretrained.load_pretrained(folder / "best").fingerprint for folder in (one, two)]
    assert models[0] == models[1]
    results = [json.loads((folder / "results.json").read_text()) for folder in (one, two)]
    for name in ("dev", "dev_last", "best_step", "num_steps", "best_fingerprint"):
        assert results[0][name] == results[1][name], name


def _final_state(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint by its path, read without the objects and the devices that wrote it."""
    import orbax.checkpoint as ocp

    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    place = (workdir / "checkpoints" / str(step) / "state").resolve()
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        shapes = reader.metadata(place).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        tree = reader.restore(place, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return {
        f"{step}{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
