"""The import arrows of the house: who may import whom."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "codir_jax"
HEAVY = {"jax", "flax", "optax", "orbax", "transformers", "tensorflow_datasets", "grain", "matplotlib", "sklearn"}

STAGE = ("config", "stage_config", "build", "partners")
LAYERS = ("data", "models", "objectives", "sharding", "train", "evaluate")
# folder -> what its files may import of this package (prefixes) and which libraries they must not.
ARROWS = {
    "verbs": (
        [
            "verbs",
            *STAGE,
            "benchmark",
            "compress",
            "compress_corpus",
            "data",
            "distributed",
            "environment",
            "evaluate",
            "exporter",
            "plan",
            "predictor",
            "pretraining",
            "run",
            "train.loop",
        ],
        HEAVY,
    ),
    "losses": (["losses"], {"flax", "orbax", "transformers", "ml_collections"}),
    "negatives": (["negatives"], {"flax", "orbax", "transformers", "ml_collections"}),
    "models": (["models", "sharding.rules"], {"optax", "orbax", "transformers"}),
    "data": (["data"], {"flax", "optax", "orbax", "jax"}),
    "objectives": (
        ["objectives", "models", "losses", "negatives", "data.batch", "sharding.rules"],
        {"flax", "orbax", "transformers"},
    ),
    "sharding": (["sharding"], {"optax", "orbax", "transformers"}),
    "train": (["train", "objectives.contract", "data.batch", "sharding", "distributed"], {"flax", "transformers"}),
    "evaluate": (["evaluate", "objectives.contract", "data.batch", "sharding"], {"flax", "orbax"}),
    "convert": (["convert", "models", "sharding.rules"], {"optax", "orbax"}),
    "plan": (
        ["plan", *STAGE, "convert", "initial_state", "losses", "negatives", "preflight", *LAYERS],
        {"flax", "orbax", "transformers"},
    ),
    "benchmark": (
        ["benchmark", *STAGE, "corpus_feed", "feed", "initial_state", "preflight", "workdir", *LAYERS],
        {"flax", "orbax", "transformers"},
    ),
}


def _imports(path):
    """(module, is at the top level of the file) of every import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names if node.module.startswith("codir_jax") else [node.module]:
                yield name, id(node) in top


def _files():
    return sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("folder", ARROWS)
def test_a_folder_imports_downwards_only(folder):
    allowed, forbidden = ARROWS[folder]
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name, _ in _imports(path):
            if name.startswith("codir_jax."):
                inner = name.removeprefix("codir_jax.")
                assert any(inner == a or inner.startswith(f"{a}.") for a in allowed), f"{path}: {name}"
            else:
                assert name.split(".")[0] not in forbidden, f"{path}: {name}"


def test_every_folder_has_its_arrows():
    folders = {p.relative_to(ROOT).parts[0] for p in _files() if p.parent != ROOT}
    assert folders == set(ARROWS)


def test_nothing_imports_the_configs_or_the_tests():
    for path in _files():
        for name, _ in _imports(path):
            assert name.split(".")[0] not in ("configs", "tests"), f"{path}: {name}"
            assert not name.startswith("codir_jax.configs"), f"{path}: {name}"


def test_only_the_command_line_imports_the_benchmark():
    for path in _files():
        if path.parent.name not in ("verbs", "benchmark"):
            assert not [name for name, _ in _imports(path) if name.startswith("codir_jax.benchmark")], path


def test_only_a_run_and_the_command_line_import_the_plan():
    for path in _files():
        if path.name != "run.py" and path.parent.name not in ("verbs", "plan"):
            assert not [name for name, _ in _imports(path) if name.startswith("codir_jax.plan")], path


def test_orbax_is_known_to_one_module():
    users = [p.name for p in _files() if any(n.startswith("orbax") for n, _ in _imports(p))]
    assert users == ["checkpoint.py"]


def test_help_imports_nothing_heavy():
    for path in (ROOT / "main.py", ROOT / "__init__.py", *(ROOT / "verbs").glob("*.py")):
        for module, is_top in _imports(path):
            is_light = module.startswith("codir_jax.verbs.") or module.split(".")[0] not in {*HEAVY, "codir_jax"}
            assert not is_top or is_light, f"{path}: {module}"


def test_every_verb_is_listed():
    from codir_jax.main import VERBS

    files = {p.stem for p in (ROOT / "verbs").glob("*.py")} - {"__init__", "flag_types"}
    assert files == set(VERBS)
    for verb in VERBS.values():
        assert verb.HELP and verb.EXAMPLES and set(verb.OVERRIDES) <= {"config", "teacher_config"}


def test_help_of_every_verb_loads_nothing_heavy():
    """As a user runs it: what the files import late counts as well."""
    code = (
        "import sys\nfrom codir_jax import main\n"
        "for verb in [*main.VERBS, '']:\n"
        "    try:\n        main.main([verb, '--help'] if verb else ['--help'])\n"
        "    except SystemExit as stopped:\n        assert stopped.code == 0\n"
        f"print(sorted({HEAVY | {'numpy', 'ml_collections'}!r} & set(sys.modules)), file=sys.stderr)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_no_file_is_a_drawer_for_everything():
    assert not {p.stem for p in _files()} & {"utils", "common", "misc", "helpers"}


def test_torch_and_tensorflow_are_never_imported_at_the_top():
    for path in _files():
        for name, is_top in _imports(path):
            assert not is_top or name.split(".")[0] not in ("torch", "tensorflow"), f"{path}: {name}"
