"""The training curves as a PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mxrec.cli.history import History

_BLUE = "#2458a6"
_ORANGE = "#c8601a"
_GREEN = "#2d7d46"
_GREY = "#6b7280"
_STYLE = {"font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold"}


def plot_history(
    history: History,
    path: Path,
    *,
    title: str,
    holdout_auc: float | None = None,
    bayes_auc: float | None = None,
) -> None:
    """Draws loss, AUC and table growth over the examples trained on.

    Args:
        history: the points; at least one.
        path: the PNG to write.
        title: above the three panels.
        holdout_auc: drawn as a line in the AUC panel when given.
        bayes_auc: the best AUC possible, likewise.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import EngFormatter, StrMethodFormatter

    with pyplot.rc_context(_STYLE):
        figure, (loss, auc, growth) = pyplot.subplots(1, 3, figsize=(14, 4.3), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        loss.plot(history.rows, history.loss, color=_BLUE, linewidth=1.6)
        loss.set_title("Training loss", loc="left")
        loss.set_ylabel("cross entropy (nats)")

        auc.plot(
            history.rows, history.auc, color=_ORANGE, linewidth=1.6, label="training, next batches"
        )
        if holdout_auc is not None:
            auc.axhline(
                holdout_auc,
                color=_ORANGE,
                linestyle="--",
                linewidth=1.2,
                label=f"held out {holdout_auc:.4f}",
            )
        if bayes_auc is not None:
            auc.axhline(
                bayes_auc,
                color=_GREY,
                linestyle=":",
                linewidth=1.4,
                label=f"best possible {bayes_auc:.4f}",
            )
        auc.set_title("AUC", loc="left")
        auc.set_ylabel("area under the ROC curve")
        auc.yaxis.set_major_formatter(StrMethodFormatter("{x:.2f}"))
        auc.legend(loc="lower right", frameon=False, fontsize=9)

        growth.plot(history.rows, history.table_rows, color=_GREEN, linewidth=1.6)
        growth.fill_between(history.rows, history.table_rows, color=_GREEN, alpha=0.12, linewidth=0)
        growth.set_ylim(bottom=0)
        growth.set_title("Table growth", loc="left")
        growth.set_ylabel("rows of all tables")
        growth.yaxis.set_major_formatter(EngFormatter(sep=" "))
        for axis in (loss, auc, growth):
            _finish(axis, EngFormatter(sep=" "))
        figure.savefig(path, dpi=130)
        pyplot.close(figure)


@dataclass(frozen=True)
class Curve:
    """A model among those compared.

    Attributes:
        name: in the legend.
        history: of its training.
        holdout_auc: on the held-out data.
    """

    name: str
    history: History
    holdout_auc: float


def plot_comparison(
    without: Curve,
    changed: Curve,
    path: Path,
    *,
    title: str,
    subtitle: str,
    bayes_auc: float | None = None,
) -> None:
    """Draws rows and AUC of two models over the examples trained on.

    Args:
        without: the model to compare with.
        changed: the other one, trained on the same batches.
        path: the PNG to write.
        title: above the panels.
        subtitle: below the title.
        bayes_auc: drawn as a line in the AUC panel when given.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import EngFormatter, FuncFormatter

    at = changed.history.rows
    with pyplot.rc_context(_STYLE):
        figure, (rows, auc, change) = pyplot.subplots(
            1, 3, figsize=(14, 4.6), layout="constrained", width_ratios=(5, 5, 4)
        )
        figure.suptitle(
            f"{title}\n", x=0.01, ha="left", fontsize=13, fontweight="bold", linespacing=1.6
        )
        figure.text(0.01, 0.925, subtitle, ha="left", va="top", fontsize=10, color=_GREY)
        # The curves of AUC nearly coincide: the lower one is wider.
        for curve, color, width in ((without, _GREY, 3.6), (changed, _GREEN, 1.5)):
            counts = curve.history.table_rows
            end = EngFormatter(places=0)(counts[-1])
            label = f"{curve.name}: {end} at the end"
            rows.plot(at, counts, color=color, linewidth=1.8, label=label)
            rows.fill_between(at, counts, color=color, alpha=0.12, linewidth=0)
            auc.plot(
                at,
                curve.history.auc,
                color=color,
                alpha=1.0 if curve is changed else 0.45,
                linewidth=width,
                label=f"{curve.name}: {curve.holdout_auc:.4f} held out",
            )
        if bayes_auc is not None:
            auc.axhline(
                bayes_auc,
                color=_ORANGE,
                linestyle=":",
                linewidth=1.4,
                label=f"best possible {bayes_auc:.4f}",
            )
        rows.set_ylim(bottom=0)
        rows.set_title("Rows of all tables", loc="left")
        rows.set_ylabel("rows")
        rows.yaxis.set_major_formatter(EngFormatter(sep=" "))
        rows.legend(loc="upper left", frameon=False)
        auc.set_title("AUC of the next batches", loc="left")
        auc.set_ylabel("area under the ROC curve")
        auc.legend(loc="lower right", frameon=False)

        differences = np.subtract(changed.history.auc, without.history.auc)
        change.axhline(0.0, color=_GREY, linewidth=1.0)
        change.plot(at, differences, color=_GREEN, linewidth=1.5)
        change.fill_between(at, differences, color=_GREEN, alpha=0.12, linewidth=0)
        # A change of nothing at all is a flat line, not noise that fills the panel.
        known = np.abs(differences[np.isfinite(differences)])
        reach = 1.15 * max(float(np.max(known, initial=0.0)), 0.002)
        change.set_ylim(-reach, reach)
        change.set_title("Its change: with less without", loc="left")
        change.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.4f}"))
        for axis in (rows, auc, change):
            _finish(axis, EngFormatter(sep=" "))
            axis.set_xlim(0, at[-1])
            axis.locator_params(axis="x", nbins=5)
        figure.savefig(path, dpi=130)
        pyplot.close(figure)


def _finish(axis: Any, formatter: Any) -> None:
    axis.set_xlabel("impressions trained on")
    axis.xaxis.set_major_formatter(formatter)
    axis.set_xlim(left=0)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
