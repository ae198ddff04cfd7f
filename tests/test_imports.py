"""The import arrows of the house: who may import whom."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "codir_jax"
HEAVY = {"jax", "flax", "optax", "orbax", "transformers", "tensorflow_datasets", "grain", "matplotlib", "sklearn"}

# The floors of the house, from the top: a file imports rooms of lower floors and its own. Two rooms of one floor do not
# know each other.
FLOORS = (
    ("main", "__init__"),
    ("verbs",),
    ("jobs", "benchmark"),
    ("predict", "plan"),
    ("stage",),
    ("tasks", "training"),
    ("objectives", "convert", "evaluation"),
    ("losses", "negatives", "models"),
    ("sharding", "data", "config", "compression", "linalg"),
    ("processes",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Room -> libraries that it must not know.
WITHOUT = {
    "verbs": HEAVY,
    "processes": {"flax", "optax", "orbax", "transformers", "ml_collections"},
    "linalg": {"flax", "optax", "orbax", "transformers", "ml_collections"},
    "compression": {"flax", "optax", "orbax", "transformers", "ml_collections"},
    "losses": {"flax", "orbax", "transformers", "ml_collections"},
    "negatives": {"flax", "orbax", "transformers", "ml_collections"},
    "models": {"optax", "orbax", "transformers"},
    "data": {"flax", "optax", "orbax", "jax"},
    "objectives": {"flax", "orbax", "transformers"},
    "sharding": {"optax", "orbax", "transformers"},
    "training": {"flax", "transformers"},
    "evaluation": {"flax", "orbax"},
    "convert": {"optax", "orbax"},
    "tasks": {"flax", "optax", "orbax"},
    "stage": {"flax", "orbax"},
    "plan": {"flax", "orbax", "transformers"},
    "benchmark": {"flax", "orbax", "transformers"},
    "jobs": {"flax", "optax", "orbax"},
    "predict": {"flax", "optax", "orbax"},
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


def _room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _own_imports(path):
    """Dotted names below the package, such as "data.batch", that a file imports."""
    names = [name for name, _ in _imports(path) if name.startswith("codir_jax.")]
    return [name.removeprefix("codir_jax.") for name in names]


def test_every_room_stands_on_a_floor_and_no_module_lies_loose():
    assert {_room(path) for path in _files()} == set(FLOOR)
    assert {path.stem for path in ROOT.glob("*.py")} == {"main", "config", "__init__"}
    assert len(FLOORS) <= 10


@pytest.mark.parametrize("room", FLOOR)
def test_a_room_imports_downwards_only(room):
    for path in (path for path in _files() if _room(path) == room):
        for name in _own_imports(path):
            below = name.split(".")[0]
            assert below == room or FLOOR[below] > FLOOR[room], f"{path}: {name}"


def test_no_files_import_each_other_in_a_circle():
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in _files()}
    graph = {}
    for name, path in modules.items():
        found = {n if n in modules else n.rpartition(".")[0] for n in _own_imports(path)}
        graph[name] = {n for n in found if n in modules and n != name}
    done = set()
    while ready := {name for name in graph if name not in done and graph[name] <= done}:
        done |= ready
    assert not graph.keys() - done


@pytest.mark.parametrize("room", WITHOUT)
def test_a_room_does_not_know_the_libraries_of_others(room):
    for path in (path for path in _files() if _room(path) == room):
        used = {name.split(".")[0] for name, _ in _imports(path)}
        assert not used & WITHOUT[room], path


def test_nothing_imports_the_configs_or_the_tests():
    for path in _files():
        for name, _ in _imports(path):
            assert name.split(".")[0] not in ("configs", "tests"), f"{path}: {name}"
            assert not name.startswith("codir_jax.configs"), f"{path}: {name}"


def test_orbax_is_known_to_one_module():
    users = [p.name for p in _files() if any(n.startswith("orbax") for n, _ in _imports(p))]
    assert users == ["checkpoint.py"]


def test_help_imports_nothing_heavy():
    for path in (ROOT / "main.py", ROOT / "__init__.py", *(ROOT / "verbs").glob("*.py")):
        for module, is_top in _imports(path):
            is_light = module.startswith(("codir_jax.verbs.", "codir_jax.processes.user_error")) or module.split(".")[
                0
            ] not in {*HEAVY, "codir_jax"}
            assert not is_top or is_light, f"{path}: {module}"


def test_every_verb_is_listed():
    from codir_jax.main import KINDS, VERBS

    files = {p.stem for p in (ROOT / "verbs").glob("*.py")} - {"__init__", "flag_types"}
    assert files == set(VERBS)
    for verb in VERBS.values():
        assert verb.HELP and verb.EXAMPLES and set(verb.OVERRIDES) <= set(KINDS)


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
