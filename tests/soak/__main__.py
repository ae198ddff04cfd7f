"""A soak of many kills: both stages, one process and two, caches and tokens in the making too.

    python -m tests.soak --kills=1000 --seed=0 --folder=/data/soak     # goes on where it was stopped

Prints a line a round, then kills by phase and what was lost. The status is 1 where something was.
"""

import argparse
import collections
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    parser.add_argument("--folder", default="", help="for workdirs and logs (default: a temporary one)")
    arguments = parser.parse_args()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="codir-soak-")).resolve()
    from tests.soak import warm

    started = time.monotonic()
    hits, by_job, lost = collections.Counter(), collections.Counter(), []
    print(f"seed {arguments.seed}, {arguments.kills} kills, in {folder}", flush=True)
    for one in warm.soak(folder, kills=arguments.kills, seed=arguments.seed):
        hits.update(one.hits)
        by_job[one.job] += one.kills
        if one.fault:
            lost.append(f"round {one.number}, {one.job}: {one.fault}")
        told = one.fault or "bit-equal"
        print(f"round {one.number:4}  {one.job:15} kills {one.kills:2}, all {hits.total():5}  {told}", flush=True)
    print(f"{hits.total()} kills in {time.monotonic() - started:.0f} s, by job {dict(by_job)}, by phase {dict(hits)}")
    print(f"lost: {len(lost)}", *lost, sep="\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
