"""The report's plots, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from mxrec.bench.results import Results, Spread
from mxrec.bench.sides import SIDE_TITLES
from mxrec.bench.timing import HOT_GAIN, HOT_OFF, STEPS, THROUGHPUT
from mxrec.bench.workload import LAWS, SESSION_LAWS

# An adapter without an entry takes the next colour of matplotlib's cycle.
_COLOURS = {
    "mxrec": "#2458a6",
    "mxrec_hot_off": "#8fb0dd",
    "tf": "#c8601a",
    "tfra": "#6b7280",
    "absl::flat_hash_map": "#c8601a",
    "boost::unordered_flat_map": "#2d7d46",
    "libcuckoo": "#8a4f9e",
    "std::unordered_map": "#6b7280",
    "hash+gather": "#b8a13a",
}
_STYLE = {"font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold"}


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """Draws what the run has figures for.

    Args:
        results: of the run.
        folder: for the PNG files; it is made.

    Returns:
        Caption -> file.
    """
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for caption, name, figure in (
        ("Throughput beside TFRA and stock TensorFlow", "bench-throughput.png", _throughput),
        ("Hot keys on and off", "bench-hot.png", _hot),
        ("Latency of every batch of inserts, through Python", "bench-insert.png", _insert),
        ("Latency of every batch while a table grows, C++", "bench-growth.png", _growth),
        ("The engine and other maps, without Python", "bench-maps.png", _maps),
    ):
        path = folder / name
        if figure(results, path):
            drawn[caption] = path
    return drawn


def _throughput(results: Results, path: Path) -> bool:
    sides = ("mxrec", "tf", "tfra")
    panels = [
        ("Lookup (million keys/s)", [f"lookup {law}" for law in LAWS], THROUGHPUT),
        (
            "Lookup in a Session (million keys/s)",
            [f"session lookup {law}" for law in SESSION_LAWS],
            THROUGHPUT,
        ),
        ("Insert (million keys/s)", ["insert"], THROUGHPUT),
        ("Training step (steps/s)", ["step adagrad", "step adam"], STEPS),
    ]
    panels = [
        panel
        for panel in panels
        if any(results.values(side, case, panel[2]) for side in sides for case in panel[1])
    ]
    if not panels:
        return False
    from matplotlib import pyplot

    columns = min(2, len(panels))
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(
            -(-len(panels) // columns),
            columns,
            figsize=(5.6 * columns, 3.4 * -(-len(panels) // columns) + 0.4),
            layout="constrained",
            squeeze=False,
        )
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (title, cases, unit) in zip(axes.flat, panels, strict=False):
            series = [_Series(side, unit, SIDE_TITLES[side], _COLOURS[side]) for side in sides]
            _bars(axis, results, series, cases)
            axis.set_title(title, loc="left")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, dpi=130)
        pyplot.close(figure)
    return True


class _Series(NamedTuple):
    """Bars of one colour."""

    side: str
    unit: str
    label: str
    colour: str


def _bars(axis: Any, results: Results, series: Sequence[_Series], cases: Sequence[str]) -> None:
    """Groups of bars: a group for each case, a bar for each series, whiskers over the rounds."""
    width = 0.8 / len(series)
    for place, (side, unit, label, colour) in enumerate(series):
        xs, heights, low, high = [], [], [], []
        for index, case in enumerate(cases):
            values = results.values(side, case, unit)
            if not values:
                continue
            spread = Spread.of(values)
            xs.append(index + (place - (len(series) - 1) / 2) * width)
            heights.append(spread.median)
            low.append(spread.median - spread.low)
            high.append(spread.high - spread.median)
        bars = axis.bar(
            xs,
            heights,
            width * 0.94,
            yerr=[low, high],
            color=colour,
            error_kw={"linewidth": 0.8},
            label=label,
        )
        axis.bar_label(bars, fmt=_number, fontsize=8, padding=2)
    names = [case.replace("session ", "").replace("lookup ", "") for case in cases]
    axis.set_xticks(range(len(cases)), [name.replace("step ", "") for name in names])
    axis.set_xlim(-0.6, len(cases) - 0.4)
    axis.margins(y=0.1)
    _finish(axis)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _hot(results: Results, path: Path) -> bool:
    cases = [f"lookup {law}" for law in LAWS if results.values("mxrec", f"lookup {law}", HOT_GAIN)]
    if not cases:
        return False
    from matplotlib import pyplot

    with pyplot.rc_context(_STYLE):
        figure, axis = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
        _bars(
            axis,
            results,
            [
                _Series("mxrec", THROUGHPUT, "hot keys on", _COLOURS["mxrec"]),
                _Series("mxrec", HOT_OFF, "hot keys off", _COLOURS["mxrec_hot_off"]),
            ],
            cases,
        )
        labels = []
        for case in cases:
            gain = median(results.values("mxrec", case, HOT_GAIN))
            labels.append(f"{case.removeprefix('lookup ')}\non : off = {gain:.2f}")
        axis.set_xticks(range(len(cases)), labels)
        axis.set_title("Lookup with hot keys on and off (million keys/s)", loc="left")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, dpi=130)
        pyplot.close(figure)
    return True


def _growth(results: Results, path: Path) -> bool:
    """The C++ suite's growth to its full size."""
    adapters = results.growth.get("adapters", {})
    series = {name: grown["latencies ms"] for name, grown in adapters.items()}
    return _latencies(series, int(results.growth.get("batch", 0)), path)


def _insert(results: Results, path: Path) -> bool:
    """The inserts of the sides."""
    series = {side: results.latencies_ms(side, "insert") for side in ("mxrec", "tfra")}
    return _latencies(series, int(results.config["batch"]), path)


def _latencies(series: dict[str, list[float]], batch: int, path: Path) -> bool:
    """Milliseconds of each batch over the rows of the table, and their histogram."""
    series = {name: values for name, values in series.items() if values}
    if not series:
        return False
    import numpy as np
    from matplotlib import pyplot
    from matplotlib.ticker import (
        EngFormatter,
        LogLocator,
        NullFormatter,
        StrMethodFormatter,
    )

    with pyplot.rc_context(_STYLE):
        figure, (over_rows, histogram) = pyplot.subplots(
            1, 2, figsize=(13, 4.4), width_ratios=(3, 2), layout="constrained"
        )
        lowest = min(min(values) for values in series.values())
        highest = max(max(values) for values in series.values())
        edges = np.geomspace(lowest * 0.95, highest * 1.05, 60)
        for name, values in series.items():
            rows = np.arange(1, len(values) + 1) * batch
            over_rows.plot(rows, values, ".", markersize=3, color=_COLOURS.get(name))
            title = SIDE_TITLES.get(name, name)
            p50, p99, most = np.percentile(values, (50, 99, 100), method="inverted_cdf")
            histogram.hist(
                values,
                bins=edges,
                color=_COLOURS.get(name),
                alpha=0.65,
                label=f"{title}: p50 {p50:.3g}, p99 {p99:.3g}, max {most:.3g} ms",
            )
        over_rows.set_yscale("log")
        over_rows.xaxis.set_major_formatter(EngFormatter(sep=" "))
        over_rows.set_xlabel("rows in the table")
        over_rows.set_ylabel("ms per batch")
        over_rows.set_title(f"Inserting {batch:,} new keys", loc="left")
        histogram.set_xscale("log")
        histogram.set_yscale("log")
        histogram.set_xlabel("ms per batch")
        histogram.set_ylabel("batches")
        histogram.set_title("Histogram", loc="left")
        for axis in (over_rows.yaxis, histogram.xaxis, histogram.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        handles, labels = histogram.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        for panel in (over_rows, histogram):
            _finish(panel)
        figure.savefig(path, dpi=130)
        pyplot.close(figure)
    return True


def _maps(results: Results, path: Path) -> bool:
    """Operations of every adapter at the largest size that has all of them."""
    if not results.maps:
        return False
    from matplotlib import pyplot

    complete = [row for row in results.maps if row["operation"] == "growth"]
    rows, dim = max((row["rows"], row["dim"]) for row in complete or results.maps)
    shown = [row for row in results.maps if (row["rows"], row["dim"]) == (rows, dim)]
    adapters = list(dict.fromkeys(row["adapter"] for row in shown))
    works = list(dict.fromkeys((row["operation"], row["law"]) for row in shown))
    cells = {(row["operation"], row["law"], row["adapter"]): row["keys/s"] / 1e6 for row in shown}
    width = 0.84 / len(adapters)
    with pyplot.rc_context(_STYLE):
        figure, axis = pyplot.subplots(figsize=(2 + 1.5 * len(works), 4.4), layout="constrained")
        for place, adapter in enumerate(adapters):
            found = [
                (index, cells[(*work, adapter)])
                for index, work in enumerate(works)
                if (*work, adapter) in cells
            ]
            shift = (place - (len(adapters) - 1) / 2) * width
            axis.bar(
                [index + shift for index, _ in found],
                [value for _, value in found],
                width * 0.94,
                color=_COLOURS.get(adapter),
                label=adapter,
            )
        names = [f"{operation}\n{law}" if law else operation for operation, law in works]
        axis.set_xticks(range(len(works)), names)
        axis.set_title(
            f"Engine without Python: {rows:,} rows of {dim} floats (million keys/s)", loc="left"
        )
        figure.legend(loc="outside lower center", ncols=len(adapters), frameon=False, fontsize=9)
        _finish(axis)
        figure.savefig(path, dpi=130)
        pyplot.close(figure)
    return True


def _finish(axis: Any) -> None:
    axis.grid(axis="y", alpha=0.25)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
