"""What a person sees while a command runs: lines and progress bars, of the first process only."""

import functools
import sys

from codir_jax.processes import distributed


def say(text: str) -> None:
    """Prints a line beside a progress bar, if there is one; of several processes only the first does."""
    if distributed.process_id() != 0:
        return
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


@functools.cache
def note(text: str) -> None:
    """Prints a line that begins with "note: ", once a process: the stages of a job read the same files."""
    say(f"note: {text}")


def duration(seconds: float) -> str:
    """Seconds for a person: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def progress_bar(name: str, done: int, total: int | None, unit: str = "step", *, is_inner: bool = False):
    """A tqdm bar on the terminal of the first process; silent elsewhere, where log lines tell the progress.

    Args:
      is_inner: of a part of something: it comes after two seconds only, and goes when the part is done.
    """
    from tqdm import tqdm

    is_off = distributed.process_id() != 0 or not sys.stderr.isatty()
    look = {"leave": False, "delay": 2.0} if is_inner else {}
    return tqdm(desc=name, initial=done, total=total, unit=unit, disable=is_off, dynamic_ncols=True, **look)
