"""What is wrong in input data, told with file and line."""

from collections.abc import Sequence

from codir_jax.processes.user_error import UserError

MAX_PROBLEMS_TOLD = 10


class DataError(UserError):
    """Bad input data, told with file and line. `problems` holds every line that was found, not only those told."""

    def __init__(self, problems: Sequence[str]):
        self.problems = tuple(problems)
        told = self.problems[:MAX_PROBLEMS_TOLD]
        count = len(self.problems)
        lines = [f"bad input data, {count} problem{'s' if count != 1 else ''}:"]
        lines += [f"  {problem}" for problem in told]
        if count > len(told):
            lines.append(f"  ... and {count - len(told)} more")
        super().__init__("\n".join(lines))
