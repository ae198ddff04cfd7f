"""Every command in the READMEs is one that exists: flags parse, configs load, scripts are there."""

import re
import shlex
from pathlib import Path

import pytest

from codir_jax import config as config_lib
from codir_jax.main import VERBS, parser, split_overrides

READMES = ("README.md", "launch/README.md", "configs/README.md", "codir_jax/README.md")


def _commands():
    """(file, command) of each line of a code block, continued lines joined."""
    for name in READMES:
        for block in re.findall(r"```\w*\n(.*?)```", Path(name).read_text(encoding="utf-8"), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                yield name, line.split("  #")[0].strip()


CODIR = [(n, c) for n, c in _commands() if re.match(r"(\S*/)?codir ", c.split("| ")[-1])]


def test_the_readme_shows_every_verb():
    shown = {shlex.split(command.split("| ")[-1])[1] for name, command in CODIR if name == "README.md"}
    assert shown == set(VERBS)


@pytest.mark.parametrize(("name", "command"), CODIR)
def test_a_codir_command_parses_and_its_config_loads(name, command):
    words = shlex.split(command.split("| ")[-1].split(" > ")[0])[1:]
    rest, overrides = split_overrides(words)
    flags = parser().parse_args(rest)
    spec = getattr(flags, "config", "")
    if spec and not spec.endswith(".json"):
        config_lib.load(spec, overrides["config"])


def test_every_script_that_a_readme_names_exists():
    for name in READMES:
        for path in re.findall(r"(?:launch|configs)/[\w./-]+\.(?:sh|py)", Path(name).read_text(encoding="utf-8")):
            assert Path(path).exists(), f"{name} names {path}"
