"""What the launchers share: the command after `--`, printed or run, and processes that are watched and started again.

Not a script. Each launcher builds `Command`s from its flags, and then either prints or runs exactly those.
"""

import argparse
import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Exit status of `codir train`: stopped by the system, a checkpoint is saved, start me again (EX_TEMPFAIL, sysexits.h).
PREEMPTED = 75


@dataclasses.dataclass(frozen=True)
class Command:
    """One program to start.

    Attributes:
      words: program and arguments.
      environment: variables that are added to those of the launcher.
      stdin: text that the program reads; "" leaves it the launcher's.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stdin: str = ""

    def shell(self) -> str:
        """The same as a line of bash, quoted, with its input as a here-document."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        line = shlex.join((["env", *variables] if variables else []) + list(self.words))
        if not self.stdin:
            return line
        end, lines = "END_OF_INPUT", self.stdin.rstrip().split("\n")
        while end in lines:  # an argument of several lines may hold it
            end += "_"
        return "\n".join((f"{line} <<'{end}'", *lines, end))

    def start(self) -> subprocess.Popen:
        """Starts it in a session of its own, so that Ctrl-C reaches the launcher only, which passes it on once."""
        return subprocess.Popen(self.words, env={**os.environ, **self.environment}, start_new_session=True)

    def run(self) -> int:
        """Runs it to its end and returns its exit status."""
        self.require()
        text = self.stdin.rstrip() + "\n" if self.stdin else None
        return subprocess.run(self.words, env={**os.environ, **self.environment}, input=text, text=True).returncode

    def require(self) -> None:
        """Refuses a program that is not there."""
        if shutil.which(self.words[0]) is None:
            raise ValueError(f"the program {self.words[0]!r} is not installed or not in PATH; see --help")


def flags(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """(flags before the first `--`, the command after it).

    Raises:
      ValueError: there is no command, or a line break in it.
    """
    arguments = list(arguments)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser.add_argument("--dry-run", action="store_true", help="print exactly what would run, and run nothing")
    options = parser.parse_args(arguments[:split])
    command = tuple(arguments[split + 1 :])
    if not command and not getattr(options, "stop", False):
        raise ValueError(
            "no command given; write it after `--`, e.g. "
            "-- codir train --config=configs/codir/finetune_teacher.py:sst2 --workdir=runs/teacher"
        )
    if broken := next((word for word in command if "\n" in word or "\r" in word), None):
        raise ValueError(f"an argument of the command has a line break, which no script keeps whole: {broken!r}")
    return options, command


def parser(text: str) -> argparse.ArgumentParser:
    """A parser whose help is the launcher's docstring."""
    return argparse.ArgumentParser(
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s [FLAGS] -- codir train ...",
    )


def add_restart_flags(of: argparse.ArgumentParser) -> None:
    """--max_restarts, and --restart_on for those who want more than the default."""
    of.add_argument("--max_restarts", type=int, default=10, help="of a preempted run (default: %(default)s)")
    of.add_argument(
        "--restart_on",
        type=lambda text: tuple(int(word) for word in text.split(",") if word),
        default=(PREEMPTED,),
        metavar="STATUS,...",
        help=f"exit statuses to start again on (default: {PREEMPTED}, preempted and saved)",
    )


def require_positive(options: argparse.Namespace, *names: str) -> None:
    """Refuses flags below 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")


def require_grace(options: argparse.Namespace) -> None:
    """Refuses --grace_seconds that are negative or no number."""
    if not 0 <= options.grace_seconds < float("inf"):
        raise ValueError(f"--grace_seconds must be at least 0, got {options.grace_seconds}")


def require_text(options: argparse.Namespace, *names: str) -> None:
    """Refuses flags that are empty or hold white space."""
    for name in names:
        if not getattr(options, name) or any(letter.isspace() for letter in getattr(options, name)):
            raise ValueError(f"--{name} expects a name, got {getattr(options, name)!r}")


def require_restarts(options: argparse.Namespace) -> None:
    """Refuses a negative number of restarts, and statuses that a process cannot have or that mean success."""
    if options.max_restarts < 0:
        raise ValueError(f"--max_restarts must be at least 0, got {options.max_restarts}")
    wrong = [status for status in options.restart_on if not 0 < status < 256]
    if wrong or not options.restart_on:
        raise ValueError(f"--restart_on expects exit statuses of 1 to 255, got {list(options.restart_on)}")


def find_program(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command with its program as it is found here: in PATH, or beside the Python that runs this."""
    if shutil.which(command[0]):
        return command
    beside = Path(sys.executable).parent / command[0]
    if beside.exists():
        return (str(beside), *command[1:])
    raise ValueError(
        f"the program {command[0]!r} is not in PATH; install the package (`source launch/environment.sh`) or give a "
        "path such as .venv/bin/codir"
    )


def restart_loop(line: str, max_restarts: int, restart_on: Sequence[int], stop_file: str) -> str:
    """Bash that runs `line`, again on the given exit statuses, and leaves with its last one.

    A file `stop_file` says that the end was asked for: then it is not started again.
    """
    again = " || ".join(f'[ "$status" -eq {status} ]' for status in restart_on)
    return (
        f"restart=0; while :; do {line}; status=$?; "
        f"if [ -e {shlex.quote(stop_file)} ] || [ $restart -ge {max_restarts} ] || ! {{ {again}; }}; then break; fi; "
        f"restart=$((restart + 1)); echo started again, $restart of at most {max_restarts} times; done; exit $status"
    )


def supervise(
    commands: Sequence[Command],
    *,
    max_restarts: int,
    restart_on: Sequence[int] = (PREEMPTED,),
    grace_seconds: float = 60.0,
    before_start: Callable[[], None] = lambda: None,
) -> int:
    """Runs processes that belong together to their end and returns the exit status of the first that failed, or 0.

    When one fails the others get `grace_seconds` to end: after a preemption (75) by themselves, as all save and leave
    together, else after a SIGTERM; then SIGKILL. A status of `restart_on` starts all of them again. SIGTERM or Ctrl-C
    goes to all of them, and then nothing is started again; the second one kills.

    Args:
      commands: the processes. before_start: called before every start, to refuse what cannot work.
      max_restarts: of the whole group. restart_on: exit statuses.
    """
    received: list[int] = []
    previous = {s: signal.signal(s, lambda number, _: received.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        for restart in range(max_restarts + 1):
            before_start()
            processes = [command.start() for command in commands]
            status = _watch(processes, received, grace_seconds)
            if status not in restart_on or received:
                return status
            if restart < max_restarts:
                tell(f"exit status {status}: started again, {restart + 1} of at most {max_restarts} times")
        tell(f"exit status {status} again; given up after {max_restarts} restarts (--max_restarts)")
        return status
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _watch(processes: Sequence[subprocess.Popen], received: list[int], grace_seconds: float) -> int:
    """Waits for all of them; returns the status of the first that failed, or 0."""
    first, deadline, forwarded = 0, None, len(received)
    try:
        while running := [p for p in processes if p.poll() is None]:
            failed = next((p for p in processes if p.returncode), None)
            if failed and not first:
                first = _status(failed)
                tell(f"process {processes.index(failed)} of {len(processes)} ended with exit status {first}")
                deadline = time.monotonic() + grace_seconds
                if first != PREEMPTED:
                    _send(running, signal.SIGTERM)
            if len(received) > forwarded:
                forwarded += 1
                deadline = time.monotonic() + (grace_seconds if forwarded == 1 else 0)
                _send(running, signal.SIGTERM)
            if deadline and time.monotonic() >= deadline:
                tell(f"still running after {grace_seconds:g} seconds of grace: killed")
                _send(running, signal.SIGKILL)
                deadline = None
            time.sleep(0.05)
    finally:
        _send([p for p in processes if p.poll() is None], signal.SIGKILL)
    return first or next((_status(p) for p in processes if p.returncode), 0)


def _status(process: subprocess.Popen) -> int:
    """Exit status as a shell tells it: 128 + the signal for a killed process."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _send(processes: Sequence[subprocess.Popen], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            # SIGTERM is for the process itself to answer; SIGKILL also for what it started.
            (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)


def tell(text: str) -> None:
    """One line of the launcher's own."""
    print(f"launch: {text}", file=sys.stderr, flush=True)


def exit_with(main: Callable[[Sequence[str]], int]) -> None:
    """Runs a launcher as a command: bad input is one sentence and exit status 2."""
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
