"""What the soaks share that needs no JAX: the settings of a job, and where a life was when it was killed."""

import collections
from pathlib import Path

# Every source of negatives: the most state that a checkpoint has to keep.
CODIR = {
    "objective.negatives.source": "in_batch+bank+queue",
    "objective.negatives.num_negatives": 16,
    "objective.negatives.queue_size": 96,
    "student.num_layers": 1,
    "student.dropout": 0.1,
}


def phases_hit(path: Path) -> tuple[str, int]:
    """The phases that were entered and not left, joined by +, and the last step."""
    lines = path.read_text().splitlines() if path.exists() else []
    is_open = collections.Counter()
    step = 0
    for line in lines:
        if line.startswith("step"):
            step = int(line.split()[1])
        else:
            is_open[line[1:]] += 1 if line[0] == "+" else -1
    inside = [name for name, count in is_open.items() if count > 0]
    if not step and not inside:
        return "start", 0
    return "+".join(sorted(inside)) or "step", step
