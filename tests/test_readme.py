"""What the READMEs say exists: commands parse, configs load, calls fit their functions, links and files are there."""

import ast
import inspect
import os
import re
import shlex
from pathlib import Path

import pytest

import codir_jax
from codir_jax import config as config_lib
from codir_jax.main import VERBS, main, parser, split_overrides

ROOT = Path(__file__).resolve().parent.parent
PRODUCT_PAGE = "README.md"
NOT_OURS = {"runs", "build", "dist"}


def _readmes():
    """Every README.md of the repository, as a path from its root."""
    for folder, inner, files in os.walk(ROOT):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in NOT_OURS)
        if "README.md" in files:
            yield (Path(folder) / "README.md").relative_to(ROOT).as_posix()


READMES = tuple(_readmes())


def _text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(name):
    """(language, content) of each code block."""
    return re.findall(r"```(\w*)\n(.*?)```", _text(name), flags=re.DOTALL)


def _commands():
    """(file, command) of each command of a code block; one goes on after a backslash and inside quotes.

    Variables that the block sets, NAME="...", are put in.
    """
    for name in READMES:
        for _, block in _blocks(name):
            lines, variables = block.replace("\\\n", " ").splitlines(), {}
            while lines:
                line = lines.pop(0).split("  #")[0].strip()
                while line.count("'") % 2 and lines and re.match(r"(\S*/)?codir ", line):
                    line = f"{line} {lines.pop(0).strip()}"
                for variable, value in variables.items():
                    line = re.sub(rf"\${variable}\b", lambda _, value=value: value, line)
                if assigned := re.fullmatch(r'([A-Z]+)="(.*)"', line):
                    variables[assigned[1]] = assigned[2]
                yield name, line


CODIR = [(n, c) for n, c in _commands() if re.match(r"(\S*/)?codir ", c.split("| ")[-1])]


def test_the_readme_shows_every_verb():
    shown = {shlex.split(command.split("| ")[-1])[1] for name, command in CODIR if name == PRODUCT_PAGE}
    assert shown == set(VERBS)


@pytest.mark.parametrize(("name", "command"), CODIR)
def test_a_codir_command_parses_and_its_config_loads(name, command):
    words = shlex.split(command.split("| ")[-1].split(" > ")[0])[1:]
    rest, overrides = split_overrides(words)
    flags = parser().parse_args(rest)
    spec = getattr(flags, "config", "")
    if spec and not spec.endswith(".json"):
        config_lib.load(spec, overrides["config"])


PLANS = [(n, c) for n, c in CODIR if re.match(r"codir plan ", c) and not {"--compile", ">"} & set(c.split())]


@pytest.mark.parametrize(("name", "command"), PLANS)
def test_a_plan_is_made(name, command, capsys):
    assert main(shlex.split(command)[1:]) == 0
    assert "memory" in capsys.readouterr().out


ARMS = [
    (name, arm, task)
    for name, command in CODIR
    for arm in re.findall(r"--arm='(.*?)'", command)
    for task in re.search(r"--tasks=(\S+)", command).group(1).split(",")
]


@pytest.mark.parametrize(("name", "arm", "task"), ARMS)
def test_every_arm_of_a_sweep_loads(name, arm, task):
    _, spec, *words = arm.replace("{task}", task).split()
    pairs = [word.split(",")[0].split("=") for word in words if word != "--search"]
    config_lib.load(spec, [(key, value) for key, value in pairs])


def _calls():
    """(file, function, source of the call) of each `codir_jax.FUNCTION(...)` in a block of Python."""
    for name in READMES:
        for language, block in _blocks(name):
            if language == "python":
                for node in ast.walk(ast.parse(block)):
                    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                    if is_call and ast.unparse(node.func.value) == "codir_jax":
                        yield name, node.func.attr, ast.unparse(node)


@pytest.mark.parametrize(("name", "function", "source"), _calls())
def test_a_call_fits_its_function(name, function, source):
    call = ast.parse(source).body[0].value
    signature = inspect.signature(getattr(codir_jax, function))
    signature.bind(*call.args, **{keyword.arg: keyword.value for keyword in call.keywords})


def test_the_readme_shows_every_function_of_the_package():
    assert {function for name, function, _ in _calls() if name == PRODUCT_PAGE} == set(codir_jax.__all__) - {
        "UserError"
    }


def test_the_product_page_is_short():
    assert len(_text(PRODUCT_PAGE).splitlines()) < 180


@pytest.mark.parametrize("name", READMES)
def test_lines_are_no_longer_than_120(name):
    """Rows of a table cannot be wrapped; those of the product page are short."""
    for number, line in enumerate(_text(name).splitlines(), 1):
        assert len(line) <= 120 or (line.startswith("|") and name != PRODUCT_PAGE), f"{name}:{number}: {line}"


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(name)):
        if not re.match(r"\w+://", target):
            assert (ROOT / name).parent.joinpath(target.split("#")[0]).exists(), f"{name} links to {target}"


@pytest.mark.parametrize("name", READMES)
def test_every_file_that_a_readme_names_exists(name):
    """Scripts and configs anywhere, and what stands in backticks: from the root, the package or the README's folder."""
    text = _text(name)
    for path in re.findall(r"(?:launch|configs)/[\w./-]+\.(?:sh|py)", text):
        assert path.split("/")[-1] == "x.py" or (ROOT / path).exists(), f"{name} names {path}"
    for path in re.findall(r"`([\w.-]+/[\w./-]*\w\.(?:py|sh|md))`", text):
        # x stands for a name that is yet to be given.
        if Path(path).stem != "x":
            places = (ROOT, ROOT / "codir_jax", (ROOT / name).parent)
            assert any((place / path).exists() for place in places), f"{name} names {path}"
