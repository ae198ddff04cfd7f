"""Meta-KD as one job: a table of texts with a domain each -> one teacher -> one small student a domain.

    codir compress --recipe=meta_kd --teacher=bert-base-uncased --train=train.tsv --dev=dev.tsv \\
        --domain_column=domain --layers=3 --output=runs/mine

The given model is the encoder that weighs the texts and that the teacher is trained from. Each domain gets two stages,
`inside_NAME` and `NAME`; its student is exported to export/NAME. Baselines, `--compare=`: `single` (each student from a
teacher of its own domain), `mixed` (from a teacher of all domains, nothing weighted, no domain term), `finetune` (cross
entropy alone).
"""

import functools

from codir_jax.config import parse_arguments
from codir_jax.jobs.recipe import Recipe, StageSpec
from codir_jax.jobs.weigh import prepare
from codir_jax.processes.user_error import UserError

PRETRAINED = (("student.init", "pretrained"), ("student.path", "{given}"), ("student.num_layers", "0"))
FROM_GIVEN = (("student.init", "teacher"), ("student.num_layers", "{layers}"))


def get_recipe(argument: str) -> Recipe:
    """The recipe for own files; `column=NAME` is their domain column, `domain=NAME` a domain, `with=SPLIT` a file."""
    words = argument.split(",")
    domains = [word.removeprefix("domain=") for word in words if word.startswith("domain=")]
    column = next((word.removeprefix("column=") for word in words if word.startswith("column=")), "")
    splits = ("train", "dev", *(word.removeprefix("with=") for word in words if word.startswith("with=")))
    rest = [word for word in words if not word.startswith(("domain=", "column=", "with="))]
    if rest == ["demo", "scratch"]:
        raise UserError("--recipe=meta_kd needs --teacher, --train, --dev and --domain_column; it has no demonstration")
    parse_arguments(",".join(rest), ("own",))
    if not column or not domains:
        raise UserError("--recipe=meta_kd needs --domain_column: the column with the name of each text's domain")
    stages = [*_teachers(domains, splits)]
    for domain in domains:
        stages += _students(domain, _files(splits, domain))
    names = tuple(f"student_{domain}" for domain in domains)
    groups = {arm: tuple(f"{arm}_{domain}" for domain in domains) for arm in ("finetune", "single", "mixed")}
    return Recipe(
        "Meta-KD",
        tuple(stages),
        main=names[0],
        exports=names,
        groups=groups,
        prepare=functools.partial(prepare, column, tuple(domains)),
    )


def _files(splits: tuple[str, ...], domain: str = "") -> tuple[tuple[str, str], ...]:
    folder = "{job}/weighed" + (f"/{domain}" if domain else "")
    return tuple((f"data.{split}_path", f"{folder}/{split}.jsonl") for split in splits)


def _teachers(domains: list[str], splits: tuple[str, ...]):
    config = "configs/meta_kd/teacher.py:own"
    yield StageSpec("meta_teacher", "teacher of all domains", config, (*PRETRAINED, *_files(splits)))
    yield StageSpec("mixed_teacher", "teacher, nothing weighted", f"{config},mixed", (*PRETRAINED, *_files(splits)))
    for domain in domains:
        settings = (*PRETRAINED, *_files(splits, domain))
        yield StageSpec(f"single_teacher_{domain}", f"{domain}: teacher of its own", f"{config},mixed", settings)


def _students(domain: str, files: tuple[tuple[str, str], ...]):
    config = "configs/meta_kd/student.py:own"
    start = (("teacher.path", "{given}"), *FROM_GIVEN)
    finetune = "configs/codir/finetune_distill.py:own,finetune"
    yield StageSpec(f"finetune_{domain}", f"{domain}: cross entropy", finetune, (*start, *files))
    for name, arm, teacher, title in (
        ("single", ",mixed", f"{{single_teacher_{domain}}}", "from its own teacher"),
        ("mixed", ",mixed", "{mixed_teacher}", "from the mixed teacher"),
        ("student", "", "{meta_teacher}", "Meta-KD"),
    ):
        inside = f"{name}_inside_{domain}"
        taught = (("teacher.path", teacher), *files)
        settings = (*taught, ("student.num_layers", "{layers}"))
        yield StageSpec(inside, f"{domain}: {title}, inside", f"{config},intermediate{arm}", settings, in_table=False)
        settings = (*taught, ("student.path", f"{{{inside}}}"), ("teacher.cache_dir", "{job}/teacher_cache"))
        yield StageSpec(f"{name}_{domain}", f"{domain}: {title}", f"{config},prediction", settings)
