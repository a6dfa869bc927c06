"""The training curves as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mxrec.cli.history import History

_BLUE = "#2458a6"
_ORANGE = "#c8601a"
_GREEN = "#2d7d46"
_GREY = "#6b7280"


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

    with pyplot.rc_context({"font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold"}):
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


def _finish(axis: Any, formatter: Any) -> None:
    axis.set_xlabel("impressions trained on")
    axis.xaxis.set_major_formatter(formatter)
    axis.set_xlim(left=0)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
