"""The command line: `codir VERB ...`. A verb is one file in `verbs/`, listed here."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from codir_jax.processes.user_error import UserError
from codir_jax.verbs import (
    augment,
    bench,
    compress,
    embed,
    evaluate,
    export,
    plan,
    predict,
    rescore,
    score,
    sweep,
    tokenizer,
    train,
    weigh,
)

# A verb's module holds HELP (a line), EXAMPLES (below its flags), OVERRIDES (which --KIND.KEY=VALUE it takes, of
# KINDS), add_flags(parser) and run(overrides, **flags) -> exit status. Nothing heavy is imported before `run`.
VERBS = {
    "compress": compress,
    "tokenizer": tokenizer,
    "augment": augment,
    "train": train,
    "sweep": sweep,
    "evaluate": evaluate,
    "predict": predict,
    "embed": embed,
    "score": score,
    "rescore": rescore,
    "export": export,
    "bench": bench,
    "plan": plan,
    "weigh": weigh,
}


KINDS = ("config", "teacher_config", "data", "train")


def parser() -> argparse.ArgumentParser:
    """The flags of every verb."""
    top = argparse.ArgumentParser(prog="codir", description="Make language models small and encoders good.")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        flags = verbs.add_parser(
            name,
            help=verb.HELP,
            description=verb.HELP[0].upper() + verb.HELP[1:] + ".",
            epilog=verb.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.add_flags(flags)
    return top


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """(other arguments, {"config": [(key, text)], "teacher_config": [...], ...}), of all KINDS."""
    rest, overrides = [], {kind: [] for kind in KINDS}
    arguments = list(arguments)
    while arguments:
        argument = arguments.pop(0)
        name, dot, key = argument.removeprefix("--").partition(".")
        if not (argument.startswith("--") and dot and name in overrides):
            rest.append(argument)
            continue
        key, equals, text = key.partition("=")
        if not equals:
            if not arguments:
                raise UserError(f"{argument} has no value; write {argument}=VALUE")
            text = arguments.pop(0)
        overrides[name].append((key, text))
    return rest, overrides


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit status, see `codir train --help`."""
    from codir_jax.processes import distributed, environment, exit_status, stop

    environment.set_defaults()
    is_cut = False
    try:
        with stop.preemptible():
            status, reason = _run(arguments), ""
    except (KeyboardInterrupt, stop.Ended) as error:
        status, reason, is_cut = exit_status.of(error), "a signal", True
    except Exception as error:
        distributed.wait_for_verdict(error)
        status, reason = exit_status.of(error), str(error)
        if status is None:
            if not distributed.is_several():
                raise
            traceback.print_exc()
            status = 1
    distributed.leave(status, reason, at_once=is_cut and arguments is None)
    return status


def _run(arguments: Sequence[str] | None) -> int:
    rest, overrides = split_overrides(sys.argv[1:] if arguments is None else arguments)
    flags = vars(parser().parse_args(rest))
    name = flags.pop("verb")
    # A shell leaves `--output=~/runs` as it is.
    flags = {flag: os.path.expanduser(v) if isinstance(v, str) and v[:2] == "~/" else v for flag, v in flags.items()}
    for kind, given in overrides.items():
        if given and kind not in VERBS[name].OVERRIDES:
            raise UserError(f"--{kind}.{given[0][0]}: `codir {name}` takes no --{kind}")
    if arguments is None:
        from codir_jax.processes import environment

        environment.use_huge_pages()
    return VERBS[name].run(overrides, **flags)


if __name__ == "__main__":
    sys.exit(main())
