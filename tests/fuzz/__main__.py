"""Command lines that are right and wrong, each tried in a folder of its own; a table of what came of them.

    python -m tests.fuzz                                  all cases
    python -m tests.fuzz --group=config,data              these groups
    python -m tests.fuzz --only=WORDS                     cases whose name holds the words
    python -m tests.fuzz --quick                          those of the fast tests
    python -m tests.fuzz --report=file.tsv                also a line a case

Told are the faults, then a table of their classes (see `harness.Outcome`) by group. The status is 1 where there is a
fault.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz import cases, harness


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--group", default="", help="comma separated (default: all)")
    parser.add_argument("--only", default="", help="words of the case's name")
    parser.add_argument("--quick", action="store_true", help="those of the fast tests")
    parser.add_argument("--report", default="", help="a .tsv to write")
    parser.add_argument("--folder", default="", help="for fixtures and folders of faults (default: a temporary one)")
    arguments = parser.parse_args()
    chosen = cases.read()
    groups = arguments.group.split(",") if arguments.group else sorted({case.group for case in chosen})
    chosen = [case for case in chosen if case.group in groups and arguments.only in case.name]
    chosen = [case for case in chosen if case.is_quick or not arguments.quick]
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="codir-fuzz-")).resolve()
    lines = ["group\tcase\texpected\tclass\tseconds\tsaid"]
    outcomes = []
    for case, outcome in harness.try_all(chosen, folder):
        outcomes.append((case.group, outcome))
        told = outcome.told.strip()
        lines.append("\t".join([*map(_cell, (case.group, case.name, case.expect, outcome.kind)),
                                f"{outcome.seconds:.2f}", _cell(told[-400:])]))  # fmt: skip
        if outcome.is_fault:
            end = "\n    ".join(told.splitlines()[-4:])
            print(f"{outcome.kind:9} {case.group}: {_cell(case.name)} (expected: {case.expect})\n    {end}", flush=True)
        if arguments.report:
            Path(arguments.report).write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")
    print(harness.table(outcomes))
    return 1 if any(outcome.is_fault for _, outcome in outcomes) else 0


def _cell(value) -> str:
    text = str(value).encode("unicode_escape", "backslashreplace").decode("ascii")
    return text.replace("\\n", " | ").replace("\\t", " ")


if __name__ == "__main__":
    sys.exit(main())
