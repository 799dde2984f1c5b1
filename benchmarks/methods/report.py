"""Tables and figures of the image quality benchmarks, from their files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from benchmarks.harness.drawing import canvas
from benchmarks.harness.records import read_json, read_rows
from benchmarks.harness.registry import Figure, Table
from benchmarks.problems.table import PROBLEMS

Rows = list[dict[str, str]]
EXAMPLE_METHODS = 8


def _problems(rows: Rows) -> list[str]:
    """Problems that have results, in the order of the table."""
    present = {row["problem"] for row in rows}
    return [name for name in PROBLEMS if name in present] + sorted(present - PROBLEMS.keys())


def _score(row: dict[str, str]) -> str:
    if row["psnr"] == "":
        return "-"
    mark = "*" if "limit" in row["outcomes"] else ""
    score = f"{float(row['psnr']):.2f}{mark}"
    if row["difference"] == "":
        return score
    return f"{score} ({_with_error(row, 'difference', sign=True, digits=3)})"


def headline(folder: Path, name: str) -> list[Table]:
    """PSNR of every method that has results, with paired differences, one column per problem."""
    rows = read_rows(folder / "summary.csv")
    if not rows:
        return []
    columns = _problems(rows)
    by_method: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in rows:
        by_method[row["method"]][row["problem"]] = row
    lines = []
    for method, cells in by_method.items():
        scores = [_score(cells[column]) if column in cells else "-" for column in columns]
        if any(score != "-" for score in scores):
            lines.append({"method": method, **dict(zip(columns, scores, strict=True))})
    protocol = read_json(folder / "protocol.json")
    images = protocol.get("images", "")
    count = max(int(row["images"]) for row in rows)
    note = (
        f"Mean PSNR in dB over {count} images ({images}), all methods on the same measurements. Weights "
        f"are tuned on {protocol.get('tuning_images', 'other images')}"
        f"{', where the noise level alone does not give them' if name == 'denoising' else ''}."
    )
    baselines: dict[str, list[str]] = defaultdict(list)
    for column in columns:
        known = {row["baseline"] for row in rows if row["problem"] == column and row["difference"]}
        for baseline in known:
            baselines[baseline].append(column)
    if baselines:
        names = [f"{baseline} ({', '.join(where)})" for baseline, where in baselines.items()]
        those = " or ".join(names) if len(names) > 1 else next(iter(baselines))
        note += f" In brackets: paired difference, with its standard error, to {those}."
    if any("*" in score for line in lines for score in line.values()):
        note += (
            " With a star: not all solves ended within the limits of iterations and time, so that "
            "differences to it are not between minimisers."
        )
    if any(score == "-" for line in lines for score in line.values()):
        note += " A dash: not run, or not made for that noise level."
    return [Table(f"{name.capitalize()}", lines, note)]


def tables(folder: Path, name: str) -> list[Table]:
    """The headline, then everything known about each problem."""
    rows = read_rows(folder / "summary.csv")
    return headline(folder, name) + [_details(rows, problem) for problem in _problems(rows)]


def _details(rows: Rows, problem: str) -> Table:
    lines = []
    entries = [row for row in rows if row["problem"] == problem]
    baseline = next((row["baseline"] for row in entries if row["baseline"]), "")
    for row in entries:
        line = {"method": row["method"], "PSNR": _with_error(row, "psnr")}
        if baseline:
            line[f"against {baseline}"] = _with_error(row, "difference", sign=True)
        line |= {
            "weight": row["weight"] if row["psnr"] else "-",
            "evaluations": _number(row["evaluations"]),
            "certified gap": _number(row["certified"]),
            "seconds": (
                f"{float(row['seconds']):.2f} ({float(row['seconds_min']):.2f} to "
                f"{float(row['seconds_max']):.2f})"
                if row["seconds"]
                else "-"
            ),
            "outcome": row["outcomes"] + (f" ({row['message']})" if row["message"] else ""),
        }
        lines.append(line)
    known = PROBLEMS.get(problem)
    note = (
        "PSNR with the standard error of its mean; differences are paired, image by image. The "
        "certified gap is the largest over the images; seconds are the median (least to most)."
    )
    return Table(f"{problem}: {known.description}" if known else problem, lines, note)


def _with_error(row: dict[str, str], key: str, *, sign: bool = False, digits: int = 2) -> str:
    if row[key] == "":
        return "-"
    value = f"{float(row[key]):{'+' if sign else ''}.{digits}f}"
    error = float(row[f"{key}_error"])
    return f"{value} ± {error:.{digits}f}" if error == error else value


def _number(text: str) -> str:
    return "-" if text in ("", "nan", "inf") else text


def figures(folder: Path, name: str) -> list[Figure]:
    """PSNR of all methods, and one example."""
    rows = [row for row in read_rows(folder / "summary.csv") if row["psnr"]]
    result = []
    if rows:
        result.append(_dots(rows, name))
    for problem in _problems(rows)[:1]:
        example = _example(folder, rows, problem, name)
        if example is not None:
            result.append(example)
    return result


def _dots(rows: Rows, name: str) -> Figure:
    """A line per problem and method, because bars from zero would hide every difference."""
    problems = _problems(rows)
    lines = []
    for problem in problems:
        ordered = sorted(
            (row for row in rows if row["problem"] == problem), key=lambda row: -float(row["psnr"])
        )
        lines += [(problem, row) for row in ordered]
    figure, axes = canvas(
        title=f"{name}: mean PSNR", x="dB", y="", height=1.2 + 0.19 * (len(lines) + len(problems))
    )
    labels, positions, place = [], [], 0.0
    for number, (problem, row) in enumerate(lines):
        if number == 0 or lines[number - 1][0] != problem:
            place += 1
            labels.append(problem)
            positions.append(place)
            place += 1
        error = float(row["psnr_error"])
        axes.errorbar(
            float(row["psnr"]),
            place,
            xerr=error if error == error else None,
            fmt="o",
            markersize=4,
            color="#0072B2",
            ecolor="#9ab",
            elinewidth=1,
        )
        labels.append(f"    {row['method']}")
        positions.append(place)
        place += 1
    axes.set_yticks(positions, labels, fontsize=8)
    for tick, label in zip(axes.get_yticklabels(), labels, strict=True):
        if not label.startswith(" "):
            tick.set_fontweight("bold")
    axes.set_ylim(place, 0)
    axes.grid(axis="y", visible=False)
    caption = f"{name}: mean PSNR with the standard error of the mean over images."
    return Figure(f"{name}-psnr", caption, figure)


def _example(folder: Path, rows: Rows, problem: str, name: str) -> Figure | None:
    """The middle of the first image as every method returns it."""
    ranked = sorted(
        (row for row in rows if row["problem"] == problem), key=lambda row: -float(row["psnr"])
    )
    names = ["clean", *[row["method"] for row in ranked]][:EXAMPLE_METHODS]
    found = [
        (method, folder / "examples" / f"{problem}.{method.replace('/', '-')}.png")
        for method in names
    ]
    found = [(method, path) for method, path in found if path.is_file()]
    if len(found) < 2:
        return None
    from matplotlib.figure import Figure as Canvas

    from convexreg.pictures.files import read_image

    rows_needed = (len(found) + 1) // 2
    figure = Canvas(figsize=(4.8, 2.5 * rows_needed), layout="constrained")
    for number, (method, path) in enumerate(found):
        axes = figure.add_subplot(rows_needed, 2, number + 1)
        axes.imshow(read_image(path).gray()[0].numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(method, fontsize=8)
        axes.set_axis_off()
    return Figure(f"{name}-example", f"{problem}: the middle of the first image.", figure)
