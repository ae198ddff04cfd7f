"""The result as a table for the console: one column a section."""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

_TRAINING: tuple[tuple[str, Callable[[Mapping], Any]], ...] = (
    ("sentences / s", lambda s: f"{s['sentences_per_second']:,.1f}"),
    ("real tokens / s", lambda s: f"{s['real_tokens_per_second']:,.0f}"),
    ("padded tokens / s", lambda s: f"{s['padded_tokens_per_second']:,.0f}"),
    ("real token share", lambda s: f"{s['real_token_share']:.1%}"),
    ("step, median", lambda s: f"{s['step_ms']['median']:,.1f} ms"),
    ("step, p5 .. p95", lambda s: f"{s['step_ms']['p5']:,.1f} .. {s['step_ms']['p95']:,.1f} ms"),
    ("step, mean", lambda s: f"{s['step_ms']['mean']:,.1f} ms"),
    ("epochs", lambda s: " ".join(f"{x:.1f}" for x in s["epoch_seconds"]) + " s"),
    ("time to first step", lambda s: f"{s['first_step_seconds']:.1f} s"),
    ("compiling", lambda s: f"{s['compile_seconds']:.1f} s"),
    ("shapes", lambda s: str(s["num_shapes"])),
    ("teacher's outputs", lambda s: f"{s['teacher_outputs_seconds']:.1f} s"),
    ("waiting for input", lambda s: f"{s['input_waiting_share']:.2%}"),
    ("student, per step", lambda s: f"{s['flops_per_step']['student']['padded'] / 1e9:,.1f} GFLOP"),
    ("teacher, per step", lambda s: f"{s['flops_per_step']['teacher']['padded'] / 1e9:,.1f} GFLOP"),
    ("utilisation, padded", lambda s: f"{s['utilisation']['padded']:.1%}"),
    ("utilisation, real", lambda s: f"{s['utilisation']['real']:.1%}"),
    ("peak memory so far", lambda s: f"{s['peak_memory']['bytes'] / 2**20:,.0f} MiB ({s['peak_memory']['of']})"),
)


def render(results: Mapping[str, Any]) -> str:
    """The whole result in text."""
    sections = results["sections"]
    for name, own in _OWN_MODELS.items():
        if name in sections:
            return "\n".join([results["devices"], *own(sections[name])])
    lines = [
        f"teacher {results['models']['teacher']} ({results['teacher']}), student {results['models']['student']}",
        f"data {results['data']}, {results['num_train']:,} texts; objective {results['objective']}",
        results["devices"],
    ]
    if "peak" in results:
        peak = results["peak"]
        lines[-1] += (
            f": matrix products of {peak['size']} run at {peak['flops_per_second'] / 1e9:,.1f} GFLOP/s in "
            f"{peak['dtype']}, and utilisation is the share of this"
        )
    columns = {name: s for name, s in sections.items() if "real_token_share" in s}
    if columns:
        rows = [["", *columns]]
        for title, cell in _TRAINING:
            cells = [_cell(cell, section) for section in columns.values()]
            if any(cells):
                rows.append([title, *cells])
        lines += ["", *_aligned(rows)]
    if "inference" in sections:
        lines += ["", *_inference(sections["inference"])]
    if "pytorch_training" in sections:
        lines += ["", *_pytorch_training(sections["pytorch_training"])]
    if "pytorch_inference" in sections:
        lines += ["", *_pytorch_inference(sections["pytorch_inference"])]
    if "collectives" in sections:
        lines += ["", *_collectives(sections["collectives"])]
    return "\n".join(lines)


def _cell(cell: Callable[[Mapping], str], section: Mapping) -> str:
    try:
        return cell(section)
    except KeyError:  # not every section has every row
        return ""


def _inference(section: Mapping) -> list[str]:
    names = [name.removesuffix("_p50_ms") for name in section["student"] if name.endswith("_p50_ms")]
    rows = [[f"inference, {section['length']} tokens", "teacher p50 / p95", "student p50 / p95", "ratio of p50"]]
    for name in names:
        cells = [
            f"{section[m][f'{name}_p50_ms']:.2f} / {section[m][f'{name}_p95_ms']:.2f} ms"
            for m in ("teacher", "student")
        ]
        rows.append([name.replace("_", " "), *cells, f"{section['teacher_over_student'][f'{name}_p50']:.2f}x"])
    return _aligned(rows)


def _pytorch_training(section: Mapping) -> list[str]:
    rates, ratios = section["rates"], section["ratios"]
    rows = [[f"median of {section['num_turns']} epochs", "sentences / s", *(f"{name}, over it" for name in ratios)]]
    rows += [[name, f"{statistics.median(rates[name]):,.1f}", *("" for _ in ratios)] for name in ratios]
    for rival in next(iter(ratios.values())):
        rate = f"{statistics.median(rates[rival]):,.1f}" if rival in rates else ""
        rows.append([rival, rate, *(_spread(ratios[name][rival]) for name in ratios)])
    return _aligned(rows)


def _pytorch_inference(section: Mapping) -> list[str]:
    sizes = [name for name in section if name.startswith("batch_")]
    titles = [word for size in sizes for word in (size.replace("_", " "), "over codir")]
    rows = [[f"student, {section['length']} tokens", *titles]]
    for arm in section[sizes[0]]:
        cells = [
            word
            for size in sizes
            for word in (f"{section[size][arm]['median_ms']:.2f} ms", _spread(section[size][arm]["ratio"]))
        ]
        rows.append([arm, *cells])
    return _aligned(rows)


def _pytorch_language_model(section: Mapping) -> list[str]:
    rows = [["LSTM 2 x 200, batch 20", "tokens / s", "over PyTorch's faster one"]]
    for arm, rate in section["tokens_per_second"].items():
        ratio = section["ratio"].get(arm)
        rows.append([arm, f"{rate:,.0f}", _spread(ratio) if ratio else ""])
    return _aligned(rows)


def _pytorch_sentence_encoder(section: Mapping) -> list[str]:
    rows = [[f"median of {section['num_turns']} turns", "triplets trained / s", "texts encoded / s"]]
    training, encoding = section["training"], section["encoding"]
    for arm in training["triplets_per_second"]:
        rows.append([arm, f"{training['triplets_per_second'][arm]:,.1f}", f"{encoding['texts_per_second'][arm]:,.1f}"])
    rows.append(["codir, over it", _spread(training["ratio"]), _spread(encoding["ratio"])])
    return [*_aligned(rows), f"largest difference of the vectors at the start: {section['largest_difference']:.1e}"]


_OWN_MODELS = {
    "pytorch_language_model": _pytorch_language_model,
    "pytorch_sentence_encoder": _pytorch_sentence_encoder,
}


def _spread(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def _collectives(section: Mapping) -> list[str]:
    rows = [[f"collectives a step, {section['num_devices']} devices", "count", "bytes on a device"]]
    rows += [[kind, str(n["count"]), f"{n['bytes']:,}"] for kind, n in section["kinds"].items() if n["count"]]
    rows.append(["all", str(section["count"]), f"{section['bytes']:,}"])
    rows += [[f"all, twice the {n}", "", f"{section[f'bytes_double_{n}']:,}"] for n in ("batch", "width")]
    rows.append(["growing with batch x width", "", f"{section['batch_times_width_bytes']:,}"])
    return [*_aligned(rows), f"grows with the batch: {', '.join(section['grows_with_batch']) or 'nothing'}"]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
