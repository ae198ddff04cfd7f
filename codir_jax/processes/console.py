"""What a person sees while a command runs: lines and progress bars, of the first process only."""

import sys

from codir_jax.processes import distributed


def say(text: str) -> None:
    """Prints a line beside a progress bar, if there is one; of several processes only the first does."""
    if distributed.process_id() != 0:
        return
    from tqdm import tqdm

    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def progress_bar(name: str, done: int, total: int | None, unit: str = "step"):
    """A tqdm bar on the terminal of the first process; silent elsewhere, where log lines tell the progress."""
    from tqdm import tqdm

    is_off = distributed.process_id() != 0 or not sys.stderr.isatty()
    return tqdm(desc=name, initial=done, total=total, unit=unit, disable=is_off, dynamic_ncols=True)
