"""Tables and figures of the results of .dev/gpu.py, for its folder and for docs/benchmarks.md."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from gfnet_dense.benchmark.processes import OK
from gfnet_dense.utils.tables import format_number, format_table

NOBODY = (
    "**No GPU has run this code yet.** `make gpu` on a machine that has one fills this section."
)
LABELS = ("float32", "TF32", "float16", "bfloat16", "compiled")  # order of the columns
KINDS = {  # what is measured: the heading of its tables
    "backbones": "Backbones, one image",
    "training": "Training step of backbones (forward, backward, gradients dropped)",
    "model": "A whole segmentor, one image",
    "heads": "The same with its heads, and with those of its library, one image",
}
SHAPES = {
    "shapes_inference": "Images of many shapes, inference",
    "shapes_training": "Images of many shapes, training step",
}
ERRORS = {  # record of run_precision: the heading of its column
    "resized_error": "resized filters",
    "output_error": "output of the layer",
    "gradient_error": "its gradients",
    "backbone_error": "maps of GFNet-H-Ti",
}
MIB = 2**-20

Results = dict[str, dict[str, Any]]  # contents of the JSON files, by name without suffix


def read_results(folder: Path) -> Results:
    """Return the results in a folder; there are none if there is no folder."""
    # Not by patterns: the folder of a user may have files such as model_a.json.
    sweeps = [f"{kind}_{label}" for kind in ("precision", *KINDS) for label in LABELS]
    paths = [folder / f"{name}.json" for name in ("tests", *SHAPES, *sweeps)]
    return {path.stem: json.loads(path.read_text()) for path in paths if path.exists()}


def write_report(folder: Path, draw: bool) -> str:
    """Write ``report.md`` and, if ``draw``, the figures into the folder of the results.

    Returns:
        The text of the report.
    """
    results = read_results(folder)
    figures = draw_figures(results, folder) if draw else []
    text = describe(results, {path.stem: path.name for path in figures})
    (folder / "report.md").write_text(f"# Results of a GPU\n\n{text}\n")
    return text


def describe_page(folder: Path, docs: Path) -> str:
    """Return the section of a page in ``docs`` about a folder below it."""
    results = read_results(folder)
    if not results:
        return NOBODY
    figures = {path.stem: path.relative_to(docs).as_posix() for path in folder.glob("*.png")}
    return describe(results, figures)


def describe(results: Results, figures: dict[str, str]) -> str:
    """Return all results as Markdown, with those of the figures that are there, by name."""
    texts = [describe_machine(results), describe_tests(results.get("tests", {}))]

    def add(name: str, heading: str, *parts: str) -> None:
        picture = f"![{heading}]({figures[name]})" if name in figures else ""
        texts.extend(part for part in (f"### {heading}", picture, *parts) if part)

    precision = by_label(results, "precision")
    if precision:
        add("precision", "Relative errors against float64", format_errors(precision))
    for name, heading in SHAPES.items():
        if name in results:
            add(name, heading, format_shapes(results[name]))
    for kind, heading in KINDS.items():
        labelled = by_label(results, kind)
        if not labelled:
            continue
        batch = next(iter(labelled.values()))["settings"]["batch_size"]
        time, memory = (
            format_columns(labelled, value)
            for value in (_milliseconds, lambda record: record["extra_memory"] * MIB)
        )
        add(kind, heading, f"Milliseconds for {batch} images:" if batch > 1 else "Milliseconds:")
        texts += [time, "Extra MiB:", memory, describe_compiling(labelled)]
    if left_out := describe_left_out(results):
        texts += ["### Left out", left_out]
    return "\n\n".join(text for text in texts if text)


def by_label(results: Results, kind: str) -> Results:
    """Return the results of one kind of measurement, by their precision."""
    found = {label: results.get(f"{kind}_{label}") for label in LABELS}
    return {label: result for label, result in found.items() if result}


def describe_machine(results: Results) -> str:
    """Return a sentence about the machine, the software and the date."""
    sweeps = [result for result in results.values() if "machine" in result]
    if not sweeps:
        return ""
    machine = sweeps[0]["machine"]
    where = machine["gpu"] or f"{machine['cpu']} (no GPU)"
    driver = f", driver {machine['driver']}" if machine.get("driver") else ""
    date = min(sweep["date"] for sweep in sweeps).replace("T", " ")
    return (
        f"{where}{driver}, PyTorch {machine['torch']}, Python {machine['python']}, {date}, "
        "`python .dev/gpu.py`. TF32 is off except in the column TF32."
    )


def describe_tests(tests: dict[str, Any]) -> str:
    """Return a sentence about the tests that need a GPU."""
    if "tests" not in tests:
        return f"Tests that need a GPU: {tests.get('status', 'not run')}."
    passed = tests["tests"] - tests["failures"] - tests["errors"] - tests["skipped"]
    text = f"Tests that need a GPU: {passed} passed, {len(tests['failed'])} failed, "
    text += f"{tests['skipped']} skipped."
    if not tests.get("in_time", True):
        text += " No time was left for the others."
    return text + "".join(f" `{name}` failed." for name in tests["failed"])


def _milliseconds(record: dict[str, Any]) -> float:
    return 1e3 * median(record["latencies"])


def format_columns(labelled: Results, value: Callable[[dict[str, Any]], float]) -> str:
    """Return a table with a row for each series and size, and a column for each precision."""
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for label, result in labelled.items():
        for case in result["cases"]:
            done = case["records"]
            cell = format_number(value(done[-1])) if done else case["status"].partition(":")[0]
            cells.setdefault((case["series"], case["size"]), {})[label] = cell
    rows = [["", "size", *labelled]]
    for series, size in sorted(cells, key=lambda key: key[1]):  # stable: series stay in order
        row = cells[series, size]
        rows.append([series, f"{size}", *(row.get(label, "") for label in labelled)])
    return format_table(rows)


def describe_compiling(labelled: Results) -> str:
    """Return a sentence about the time of compiling, '' if nothing was compiled."""
    times = [
        f"{case['records'][-1]['compile_seconds']:.0f} s at {case['size']}"
        for case in labelled.get("compiled", {}).get("cases", [])
        if case["records"]
    ]
    return f"Compiling, with the first call, took {', '.join(times)}." if times else ""


def format_errors(labelled: Results) -> str:
    """Return a table of relative errors, a row for each precision and map size."""
    rows = [["", "map", *ERRORS.values()]]
    for label, result in labelled.items():
        for case in result["cases"]:
            record = case["records"][-1] if case["records"] else {}
            status = "" if record else case["status"].partition(":")[0]
            values = [f"{record[key]:.1e}" if record else status for key in ERRORS]
            rows.append([label, f"{case['size']}", *values])
    return format_table(rows)


def format_shapes(result: dict[str, Any]) -> str:
    """Return a table with a row for each size of the plan cache and each number of shapes."""
    columns: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "ms per batch": _milliseconds,
        "plans kept": lambda record: record.get("plans"),
        "MiB of plans": lambda record: _mib(record, "plan_memory"),
        "MiB of PyTorch's allocator": lambda record: _mib(record, "reserved_memory"),
    }
    rows = [["cache", "shapes", *columns]]
    for case in sorted(result["cases"], key=lambda case: case["size"]):
        record = case["records"][-1] if case["records"] else None
        cells = [format_number(value(record)) if record else "" for value in columns.values()]
        if record is None:
            cells[0] = case["status"].partition(":")[0]
        rows.append([case["series"], f"{case['size']}", *cells])
    return format_table(rows)


def _mib(record: dict[str, Any], key: str) -> float | None:
    return record[key] * MIB if key in record else None


def describe_left_out(results: Results) -> str:
    """Return a list of the cases that were not measured, with the reason of each."""
    lines = [
        f"- {name.replace('_', ', ')}: {case['series']} at {case['size']}: {case['status']}"
        for name, result in results.items()
        for case in result.get("cases", [])
        if case["status"] != OK
    ]
    return "\n".join(lines)


def draw_figures(results: Results, folder: Path) -> list[Path]:
    """Draw a figure for each kind of measurement into the folder, and return their paths."""
    from gfnet_dense.visualization.figures import save_figure
    from gpu_figures import draw_precisions, draw_shapes

    figures = {kind: draw_precisions(by_label(results, kind)) for kind in KINDS}
    figures |= {name: draw_shapes(results.get(name, {})) for name in SHAPES}
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            paths.append(folder / f"{name}.png")
            save_figure(figure, paths[-1], dpi=110)
    return paths
