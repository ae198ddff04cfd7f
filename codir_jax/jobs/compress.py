"""The whole job: a recipe run on the user's data. Its stages, costs, export, one table, a short report."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codir_jax.config import Overrides, as_texts
from codir_jax.jobs import chosen, over_seeds, own_data, pareto, sources
from codir_jax.jobs import recipe as recipe_lib
from codir_jax.jobs.augment import OfJob
from codir_jax.jobs.command_line import command_of
from codir_jax.jobs.job import Job
from codir_jax.jobs.work import Work
from codir_jax.processes import claims
from codir_jax.processes.user_error import UserError


def _names(given: str | Sequence[str]) -> Sequence[str]:
    """A list, or a text with commas."""
    return [name for name in given.split(",") if name] if isinstance(given, str) else given


def compress(
    teacher: str = "",
    train: Any = "",
    dev: Any = "",
    *,
    output: str,
    text: str = "",
    layers: int = 0,
    test: Any = "",
    unlabelled: Any = "",
    augment: int = 0,
    augment_by: str = "",
    text_column: str = "",
    text_pair_column: str = "",
    label_column: str = "",
    regression: bool = False,
    multi_label: bool = False,
    label_separator: str = "",
    task: str = "",
    glue_dir: str = "",
    domain_column: str = "",
    domains: str | Sequence[str] = (),
    demo: bool = False,
    compare: str | Sequence[str] = (),
    then: str | Sequence[str] = (),
    max_bytes: str | int = "",
    max_loss_percent: float | None = None,
    export: str = chosen.BEST,
    format: str | Sequence[str] = (),
    prune_vocabulary: bool = False,
    recipe: str = "codir",
    seed: int = 0,
    seeds: int = 1,
    workers: int = 1,
    price_per_hour: float | None = None,
    license: str = "",
    language: str = "",
    overrides: Overrides = (),
    teacher_overrides: Overrides = (),
    on_step: Callable[[str, int, dict[str, float]], None] | None = None,
    on_evaluation: Callable[[str, int, dict[str, float]], None] | None = None,
) -> Job:
    """Compresses `teacher` and returns the finished job; stopped, the same call goes on.

    What is finished in the folder stays: a call with more to compare, or with more seeds, trains that alone.

    Args:
      teacher: Hugging Face folder, workdir or hub name of the model that the job is given. A teacher without a trained
        head for the task is trained first. Empty, with `text` or `demo`: a small one is made of nothing (and with
        `text` a tokenizer).
      train, dev, test, unlabelled: own files, data sets of Hugging Face, lists, dicts or DataFrames, as
        `data/given_rows.py` tells; or a GLUE `task` (read from `glue_dir`, else downloaded), or `demo`. Without dev a
        tenth of train is set aside, stratified by class and drawn by the seed.
      augment: in the place of unlabelled texts so many copies of each train text, in which a masked LM puts other
        words, `augment_by` or, empty, the teacher; see `predict.word_replacer`.
      text: running text in their place (`data.sources`: files, folders, globs, comma separated): a masked language
        model is compressed, for any task later.
      output: folder of the job: one folder a stage, export/, report.html, report.md, results.json.
      layers: of the student; 0 is half of the teacher's.
      text_column, text_pair_column, label_column, regression: of own files; empty: found by their names
        and what they hold, and told.
      multi_label: of own files: a text has any number of classes, names joined in a cell by `label_separator` (empty:
        that of | ; , which is in them, and told), or a list of names; nothing for a text of no class. Or
        label_column="a,b,c" are columns of 0 and 1, one a class.
      domain_column: of own files, for a recipe of domains. domains: those that get a student; empty: all.
      then: ways to make the trained model smaller at once, of `compression.methods`: "int8", "rank64+int4". Each is a
        row of the table and a folder in then/.
      max_bytes, max_loss_percent: "5MB"; so many percent of the first row's score: the model within the limit, of all
        rows, is copied to picked/: the best one that is small enough, or the smallest that is good enough.
      compare: baselines of the recipe to train as well. It, `then`, `format` and `domains` are lists of names, or texts
        with commas.
      export: what becomes export/: "best" on dev of what is compared, or its name.
      format: of `convert.formats`, that export/ has beside its Hugging Face files: "onnx", "onnx-int8", "stablehlo".
      prune_vocabulary: what is exported keeps the words of the train texts alone, and is a row of the table.
      recipe: name of a folder in configs/.
      seed: of every stage. seeds: how many, from `seed` upwards: the students are trained with each of them, the
        teacher with the first; the table then has means and intervals.
      workers: stages that are trained at once, where they need nothing of each other, each in a process of its own on
        a part of the machine; 0: one a card, or one per two cores. One: all of them on all devices, in turn.
      price_per_hour: of the machine, in any currency: the report then tells the cost of a million texts.
      license, language: of the exported model, for its card: "apache-2.0", "en"; empty: of `teacher`'s.
      overrides, teacher_overrides: dotted config key -> value, or pairs of them, of all stages but the teacher's, and
        of that. A key that begins with the name of a stage holds for it alone. Those of `data` hold for the teacher
        too, so that it is not trained on what the students are judged by.
      on_step, on_evaluation: as of `train`, of every stage; its workdir is told.

    Raises:
      UserError: before anything is trained.

    Example:
      >>> codir_jax.compress("roberta-base", "train.tsv", "dev.tsv", layers=6, output="runs/mine")["export"]
      'runs/mine/export'
      >>> codir_jax.compress("roberta-base", text="books/*.txt", layers=6, output="runs/any_task")["export"]
      'runs/any_task/export'
    """
    overrides, teacher_overrides = as_texts(overrides), as_texts(teacher_overrides)
    output, max_bytes = os.path.expanduser(output), str(max_bytes)
    text_column, text_pair_column, label_column = str(text_column), str(text_pair_column), str(label_column)
    compare, then, format, domains = map(_names, (compare, then, format, domains))
    arguments = dict(locals())
    claims.check(output, claims.JOB, "--output")
    teacher = str(teacher)
    limit = pareto.Limit(max_bytes, max_loss_percent)
    flags = own_data.as_files(sources.with_overrides(locals(), overrides), Path(output))
    if flags["train"] and domain_column:
        flags = own_data.complete(flags, Path(output), seed)
    source = sources.source_of(flags)
    words = [source.name, *(["scratch"] if not teacher else []), *sources.domain_words(source, domain_column, domains)]
    found = recipe_lib.load(recipe, ",".join(words))
    copies, is_labelled = None, found.needs_dev and source.name == "own" and not domain_column
    if augment and not is_labelled:
        raise UserError(f"--augment={augment} is of your own labelled texts, --train, without domains; leave it out")
    if is_labelled:  # else its flags are complete
        flags = own_data.complete(flags, Path(output), seed)
        if augment:
            copies = _copies(flags, augment, augment_by or teacher, Path(output), seed)
            flags["unlabelled"] = str(copies.path)
        source = sources.source_of(flags)
    if limit and found.exports:
        raise UserError(
            f"--max_bytes and --max_loss_percent pick one model, and --recipe={recipe} ends with one a domain; leave "
            "them out"
        )
    work = Work(
        found,
        source,
        Path(output),
        given=teacher,
        compare=compare,
        then=then,
        export=export,
        formats=format,
        prunes=prune_vocabulary,
        layers=layers,
        seeds=over_seeds.of_job(seed, seeds, Path(output), [*overrides, *teacher_overrides]),
        num_workers=workers,
        price_per_hour=price_per_hour,
        copies=copies,
        told={"license": license, "language": language, "data": sources.name_of(train)},
    )
    arguments |= {"compare": work.compared, "seeds": len(work.seeds)}
    work.command = command_of("compress", compress, arguments)
    work.watchers = {"on_step": on_step, "on_evaluation": on_evaluation}
    results = work.run(overrides, teacher_overrides)
    if limit:
        work.pick(results, limit)
    return Job(output, results)


def _copies(flags: Mapping[str, Any], copies: int, model: str, folder: Path, seed: int) -> OfJob:
    """The copies of the job's train texts, checked.

    Raises:
      UserError: there are unlabelled texts already, or the model has no masked-LM head.
    """
    if flags["unlabelled"]:
        raise UserError("--augment and --unlabelled both give texts without labels; give one")
    columns = tuple(flags[name] for name in ("text_column", "text_pair_column") if flags[name])
    made = OfJob(model, copies, seed, flags["train"], columns, folder / "augmented.jsonl")
    if not made.is_made:
        made.check()
    return made
