"""Runs cases in children of one process whose imports are done: a case costs tenths of a second.

The parent never asks JAX for a device, so that each child starts JAX's threads for itself.
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
import resource
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.cases import Case, prepare

_ROOT = Path(__file__).resolve().parents[2]
_BEGUN = "[a training began]"
_MOST_BYTES = 12 << 30  # of address space above what the imports took
_REFUSED = (2, 4)  # bad input; a place that cannot be written
_ACCEPTED = 99  # exit status of a child whose training would begin


KINDS = ("ok", "silent", "unclear", "traceback", "late", "hang", "loss", "wrong")


class Outcome(NamedTuple):
    """What a case did.

    Attributes:
      kind: "ok", or a fault: "silent" (accepted, but it was to be refused), "unclear" (refused in words that do not
        name the cause, or with another status), "traceback", "late" (refused after a training), "hang", "loss" (a file
        of the user or of another case changed), "wrong" (refused, but it was to be accepted, or accepted without the
        words that were to be said).
      seconds: that it took.
      told: the end of what it printed.
    """

    kind: str
    seconds: float
    told: str

    @property
    def is_fault(self) -> bool:
        return self.kind != "ok"


def try_all(cases: Sequence[Case], folder: Path) -> Iterator[tuple[Case, Outcome]]:
    """Every case with its outcome, one after the other; `folder` keeps fixtures and the folders of faults."""
    prepare_process(folder)
    from tests.fuzz import fixtures

    made = folder / "fixtures"
    _make(made, lambda: fixtures.make(made))
    for number, case in enumerate(cases):
        if any(content.get("copy") == "run" for content in case.files.values() if isinstance(content, dict)):
            _make(made / "run", lambda: fixtures.make_run(made / "run"))
        yield case, try_case(case, folder / "cases" / str(number), made)


def table(outcomes: Sequence[tuple[str, Outcome]]) -> str:
    """Classes by group, as text."""
    counts = collections.defaultdict(collections.Counter)
    for group, outcome in outcomes:
        counts[group][outcome.kind] += 1
        counts["all"][outcome.kind] += 1
    counts["all"] = counts.pop("all", collections.Counter())
    rows = [
        ["group", "cases", *KINDS],
        *([name, of.total(), *(of[kind] for kind in KINDS)] for name, of in counts.items()),
    ]
    return "\n".join(f"{row[0]:10}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows)


def _make(folder: Path, make: Callable[[], None]) -> None:
    """Calls `make` in a child, once; what it makes is marked as whole beside it."""
    whole = folder.with_name(f"{folder.name}.whole")
    if whole.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder.with_name(f"{folder.name}.log")
    status = wait(forked(make, log), 300)
    assert status == 0, log.read_text(encoding="utf-8")
    whole.touch()


def _set_environment(folder: Path) -> None:
    """Before JAX is imported."""
    from codir_jax.processes import environment

    environment.set_defaults()
    flags = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
    os.environ.update(
        JAX_PLATFORMS="cpu",
        XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {flags}",
        XDG_CACHE_HOME=str(folder / "cache"),
        JAX_COMPILATION_CACHE_DIR=str(folder / "compiled"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="0",
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
    )


def prepare_process(folder: Path) -> None:
    """Makes this process one to fork from: its environment, compiled programs in `folder`, all imports."""
    _set_environment(folder)
    import_everything()


def import_everything() -> None:
    """What the verbs import late, so that no child pays for it."""
    import importlib
    import pkgutil

    import codir_jax

    for module in pkgutil.walk_packages(codir_jax.__path__, "codir_jax."):
        if "configs" not in module.name:
            importlib.import_module(module.name)
    import transformers

    for name in ("AutoTokenizer", "PreTrainedTokenizerFast", "RobertaTokenizerFast", "BertTokenizerFast"):
        getattr(transformers, name)
    from jax._src import xla_bridge

    assert not xla_bridge.backends_are_initialized(), "an import starts JAX's devices"


def forked(run: Callable[[], int | None], log: Path, *, env: dict[str, str] | None = None, stdin: str = "") -> int:
    """Starts a child that runs `run` and leaves with what it returns; its process id. It leads a group of its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        told = log.with_suffix(".stdin")
        told.write_text(stdin, encoding="utf-8", errors="surrogateescape")
        os.dup2(os.open(told, os.O_RDONLY), 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the parent's has been read ahead
        os.environ.update(env or {})
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        status = run() or 0
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1 if stopped.code else 0
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int, seconds: float) -> int | None:
    """The exit status of a child, negative for a signal; None, and it is killed, where it takes longer."""
    end = time.monotonic() + seconds
    pause = 0.005
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(pause * 1.3, 0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def try_case(case: Case, folder: Path, fixtures: Path) -> Outcome:
    """Runs a case in a folder of its own, which is removed where nothing is wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    work = folder / "work"
    work.mkdir(parents=True)
    prepare(case.files, work, fixtures)
    before = {**hashes(fixtures), **hashes(work)}
    places = {"{work}": str(work), "{fixtures}": str(fixtures), "{root}": os.getcwd()}
    command = [_fill(word, places) for word in case.command]
    env = {name: _fill(value, places) for name, value in case.env.items()}
    log = folder / "log"
    started = time.monotonic()
    status = wait(
        forked(lambda: _command(command, work, case.until), log, env=env, stdin=_fill(case.stdin, places)), case.seconds
    )
    seconds = time.monotonic() - started
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    allowed = [str(work / pattern) for pattern in case.may_change]
    after = {**hashes(fixtures), **hashes(work)}
    changed = [path for path, digest in before.items() if after.get(path) != digest]
    lost = [path for path in changed if not any(fnmatch(path, pattern) for pattern in allowed)]
    kind = _judge(case, status, text)
    if lost:
        kind, text = "loss", f"{text}\nchanged: {', '.join(lost[:5])}"
    if kind == "ok":
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(kind, seconds, text[-1500:])


def _fill(text: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        text = text.replace(name, place)
    return text


def _command(command: Sequence[str], work: Path, until: str) -> int:
    from codir_jax import main
    from codir_jax.stage import run as run_lib

    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_pages() + _MOST_BYTES, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    steps = run_lib.loop.run

    def stop(self):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_ACCEPTED)

    def begin(*arguments, **named):
        print(_BEGUN, flush=True)
        return steps(*arguments, **named)

    run_lib.loop.run = begin
    if until == "start":
        run_lib._Run.train = stop
    if command[0].startswith("launch/"):
        script = (_ROOT / command[0]).resolve()
        sys.path.insert(0, str(script.parent))
        sys.argv = [str(script), *command[1:]]
        os.chdir(work)
        runpy.run_path(str(script), run_name="__main__")
        return 0
    os.chdir(work)
    return main.main(command)


def _pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _judge(case: Case, status: int | None, text: str) -> str:
    if status is None:
        return "hang"
    if "Traceback (most recent call last)" in text or status < 0:
        return "traceback"
    is_said = re.search(case.says, text, re.DOTALL) is not None
    if status in (0, _ACCEPTED) and case.never and re.search(case.never, text):
        return "wrong" if case.expect == "ok" else "silent"
    if status in (0, _ACCEPTED):
        if case.expect not in ("ok", "either"):
            return "silent"
        return "ok" if is_said or case.expect == "either" else "wrong"
    if case.expect == "ok":
        return "wrong"
    if _BEGUN in text and case.expect == "refuse":
        return "late"
    is_told = re.search(r"^([^\s:]+( [^\s:]+)*: )?error: ", text, re.MULTILINE) is not None
    return "ok" if is_said and is_told and status in _REFUSED else "unclear"


def hashes(folder: Path) -> dict[str, str]:
    """Path -> digest of what lies there, links not followed."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = f"link to {os.readlink(path)}"
        elif path.is_file():
            size = path.stat().st_size
            found[str(path)] = str(size) if size > 1 << 27 else hashlib.sha256(path.read_bytes()).hexdigest()
        elif not path.is_dir():
            found[str(path)] = "special"
    return found
