"""The verb: one measurement, a comparison with another command, or a sweep; printed, and written where asked."""

import json
import sys
from pathlib import Path
from typing import Any

from codir_jax.benchmark import bench, compare, table
from codir_jax.benchmark.bench import Request
from codir_jax.benchmark.child import child_command
from codir_jax.processes import claims, whole
from codir_jax.processes.user_error import UserError


def run(
    request: Request,
    *,
    started: float,
    output: str = "",
    as_json: bool = False,
    theirs: str = "",
    num_pairs: int = 5,
    sweeps: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Measures, prints, writes; returns what it wrote.

    Args:
      request: what to measure.
      started: `time.perf_counter()` of the start of the program.
      output: folder of bench.json, or of the sweeps' CSV and plots; "" writes nothing.
      as_json: one line of JSON on standard output; progress goes to standard error in any case.
      theirs: a shell command to compare with. num_pairs: turns of the two.
      sweeps: of `sweep.SWEEPS`; in place of the sections.

    Raises:
      UserError: --compare and --sweep at once, a sweep without a folder, or what the parts refuse.
    """
    if num_pairs < 1:
        raise UserError(f"--pairs must be >= 1, got {num_pairs}")
    if sweeps and not output:
        raise UserError("a sweep writes a CSV and plots: name their folder by --output")
    if output:
        claims.check(output, claims.BENCH, "--output")
    if theirs and sweeps:
        raise UserError("--compare and --sweep are two measurements; give one of them")
    if sweeps:
        from codir_jax.benchmark import sweep

        results = sweep.run(request, sweeps, Path(output), say)
    elif theirs:
        results = compare.compare(child_command(request), theirs, num_pairs, say=say)
    else:
        results = bench.run(request, started, say)
    print(json.dumps(results) if as_json else _told(results), flush=True)
    if output:
        folder = Path(output)
        claims.claim(folder, claims.BENCH, "--output")
        whole.write_json(folder / "bench.json", results)
        say(f"written: {folder / 'bench.json'}")
    return results


def _told(results: dict[str, Any]) -> str:
    if "sections" in results:
        return table.render(results)
    if "rows" in results:
        return "\n".join(f"written: {path}" for path in results["files"])
    return f"ours over theirs: {results['ratio']['median']:.3f} (median of {len(results['pairs'])} pairs)"


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
