"""Tables and figures of the image quality benchmarks, from their files."""

from __future__ import annotations

import math
from pathlib import Path

from pandas import DataFrame, Series

from benchmarks.harness.drawing import canvas, panels
from benchmarks.harness.records import read_json, read_rows
from benchmarks.harness.registry import Figure, Table
from benchmarks.problems.table import PROBLEMS

EXAMPLE_METHODS = 8
NUMBERS = ("psnr", "psnr_error", "difference", "difference_error")


def _read(folder: Path) -> DataFrame:
    """The summary, problems in the order of their table."""
    rows = read_rows(folder / "summary.csv")
    names = [*PROBLEMS, *sorted(set(rows["problem"]) - PROBLEMS.keys())]
    rows = rows.sort_values("problem", key=lambda its: its.map(names.index), kind="stable")
    return rows.astype(dict.fromkeys(NUMBERS, float))


def _with_error(row: Series, key: str, *, sign: bool = False, digits: int = 2) -> str:
    if math.isnan(row[key]):
        return "-"
    value, error = f"{row[key]:{'+' if sign else ''}.{digits}f}", row[f"{key}_error"]
    return value if math.isnan(error) else f"{value} ± {error:.{digits}f}"


def _score(row: Series) -> str:
    if math.isnan(row["psnr"]):
        return "-"
    score = f"{row['psnr']:.2f}{'*' if 'limit' in row['outcomes'] else ''}"
    difference = _with_error(row, "difference", sign=True, digits=3)
    return score if difference == "-" else f"{score} ({difference})"


def headline(folder: Path, name: str) -> list[Table]:
    """PSNR of every method that has results, with paired differences, one column per problem."""
    rows = _read(folder)
    scores = rows.assign(score=rows.apply(_score, axis=1)).pivot(
        index="method", columns="problem", values="score"
    )
    scores = scores.loc[rows.sort_index()["method"].unique(), rows["problem"].unique()].where(
        lambda cell: cell.notna(), "-"
    )
    scores = scores[(scores != "-").any(axis=1)]
    protocol = read_json(folder / "protocol.json")
    note = (
        f"Mean PSNR in dB over {rows['images'].astype(int).max()} images ({protocol.get('images', '')}), all "
        "methods on the same measurements. Weights are tuned on "
        f"{protocol.get('tuning_images', 'other images')}"
        f"{', where the noise level alone does not give them' if name == 'denoising' else ''}."
    )
    compared = rows.dropna(subset="difference").groupby("baseline", sort=False)["problem"].unique()
    if len(compared):
        names = [f"{baseline} ({', '.join(where)})" for baseline, where in compared.items()]
        those = " or ".join(names) if len(names) > 1 else compared.index[0]
        note += f" In brackets: paired difference, with its standard error, to {those}."
    if scores.apply(lambda column: column.str.contains("*", regex=False)).any(axis=None):
        note += (
            " With a star: not all solves ended within the limits of iterations and time, so that "
            "differences to it are not between minimisers."
        )
    if (scores == "-").any(axis=None):
        note += " A dash: not run, or not made for that noise level."
    return [Table(name.replace("-", " ").capitalize(), scores.reset_index(), note)]


def tables(folder: Path, name: str) -> list[Table]:
    """The headline, then everything known about each problem."""
    rows = _read(folder)
    return headline(folder, name) + [
        _details(rows) for _, rows in rows.groupby("problem", sort=False)
    ]


def _details(rows: DataFrame) -> Table:
    problem, baselines, lines = rows["problem"].iloc[0], rows["baseline"].dropna(), []
    for _, row in rows.iterrows():
        line = {"method": row["method"], "PSNR": _with_error(row, "psnr")}
        if len(baselines):
            line[f"against {baselines.iloc[0]}"] = _with_error(row, "difference", sign=True)
        seconds = row[["seconds", "seconds_min", "seconds_max"]].astype(float)
        line |= {
            "weight": "-" if math.isnan(row["psnr"]) else row["weight"],
            "evaluations": _number(row["evaluations"]),
            "certified gap": _number(row["certified"]),
            "seconds": "-" if seconds.hasnans else "{:.2f} ({:.2f} to {:.2f})".format(*seconds),
            "outcome": row["outcomes"] + (f" ({row['message']})" if row.notna()["message"] else ""),
        }
        lines.append(line)
    title = f"{problem}: {PROBLEMS[problem].description}" if problem in PROBLEMS else problem
    note = (
        "PSNR with the standard error of its mean; differences are paired, image by image. The "
        "certified gap is the largest over the images; seconds are the median (least to most)."
    )
    return Table(title, DataFrame(lines), note)


def _number(text: object) -> str:
    return "-" if str(text) in ("nan", "inf") else str(text)


def figures(folder: Path, name: str) -> list[Figure]:
    """PSNR of all methods, and one example."""
    rows = _read(folder)
    if rows["psnr"].isna().all():
        return []
    rows = rows.dropna(subset="psnr").sort_values("psnr", ascending=False, kind="stable")
    by_problem = [rows[rows["problem"] == problem] for problem in _read(folder)["problem"].unique()]
    by_problem = [rows for rows in by_problem if len(rows)]
    example = _example(folder, by_problem[0], name)
    return [_dots(by_problem, name), *([] if example is None else [example])]


def _dots(by_problem: list[DataFrame], name: str) -> Figure:
    """A line per problem and method, because bars from zero would hide every difference."""
    labels, places, place = [], [], 0
    lines = sum(len(rows) + 1 for rows in by_problem)
    figure, axes = canvas(title=f"{name}: mean PSNR", x="dB", y="", height=1.2 + 0.19 * lines)
    style = {"fmt": "o", "markersize": 4, "color": "#0072B2", "ecolor": "#9ab", "elinewidth": 1}
    for rows in by_problem:
        heights = range(place + 2, place + 2 + len(rows))
        axes.errorbar(rows["psnr"], heights, xerr=rows["psnr_error"].fillna(0), **style)
        labels += [rows["problem"].iloc[0], *("    " + rows["method"])]
        places += [place + 1, *heights]
        place += len(rows) + 2
    axes.set_yticks(places, labels, fontsize=8)
    for tick, label in zip(axes.get_yticklabels(), labels, strict=True):
        if not label.startswith(" "):
            tick.set_fontweight("bold")
    axes.set_ylim(place, 0)
    axes.grid(axis="y", visible=False)
    caption = f"{name}: mean PSNR with the standard error of the mean over images."
    return Figure(f"{name}-psnr", caption, figure)


def _example(folder: Path, ranked: DataFrame, name: str) -> Figure | None:
    """The middle of the first image as every method returns it."""
    from convexreg.pictures.files import read_image

    problem = ranked["problem"].iloc[0]
    paths = {
        method: folder / "examples" / f"{problem}.{method.replace('/', '-')}.png"
        for method in ["clean", *ranked["method"]][:EXAMPLE_METHODS]
    }
    found = {method: path for method, path in paths.items() if path.is_file()}
    if len(found) < 2:
        return None
    figure, all_axes = panels(len(found), 2, height=2.5)
    for axes, (method, path) in zip(all_axes, found.items(), strict=True):
        axes.set_axis_off()
        axes.imshow(read_image(path).pixels.movedim(0, -1).numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(method, fontsize=8)
    return Figure(f"{name}-example", f"{problem}: the middle of the first image.", figure)
