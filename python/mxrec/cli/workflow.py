"""The commands.

Train on a source, evaluate on later data, save, restore in a new process, compare, report, plot.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mxrec import _ssd_paths
from mxrec.cli.config import MODEL_FOLDER, ModelConfig, RunConfig, table_names
from mxrec.cli.console import Console
from mxrec.cli.examples import Examples, NumericScaler
from mxrec.cli.history import History
from mxrec.cli.lines import DataError
from mxrec.cli.metrics import expected_auc, roc_auc
from mxrec.cli.report import (
    COMPARISON_HEADER,
    HEADER,
    TableReport,
    add_up,
    comparison_row,
    count_rows,
    report_rows,
    table_reports,
)
from mxrec.cli.sources import Source, source_from_json
from mxrec.cli.tier_report import TIER_HEADER, of_tiers, tier_row, tiers_of
from mxrec.tiers import tier_advice

if TYPE_CHECKING:
    from mxrec.cli.training import Evaluation, Input

_MARKER = "mxrec-run"
_RESULT = "result.json"
_PLOT = "training.png"
_COMPARISON = "comparison.png"
_WITHOUT = "without"
_MEASURED_BATCHES = 40


class RestoreMismatch(RuntimeError):
    """The restored model does not give the same evaluation as the trained one."""


@dataclass(frozen=True)
class TrainOptions:
    """Choices of ``mxrec train`` and ``mxrec demo`` that do not concern the data.

    Attributes:
        out: directory of the results.
        batch_size: rows per step.
        epochs: passes over the training rows.
        dim: width of the embeddings.
        optimizer: ``lazy_adam`` or ``adagrad``.
        sparse_learning_rate: of the tables.
        dense_learning_rate: of the dense layers.
        seed: of initial values and shuffling.
        admission: occurrences that give a key a row; None: the first one.
        evict_after: seconds after its last use that a key goes; None: it stays.
        memory_rows: rows of each table that memory holds; None: as many as come.
        ssd_rows: rows of each table beyond them, in files.
        ssd_paths: directories for these files, absolute.
        plot: whether to write PNGs.
        rewrite: whether the input pipeline prepares the keys of coming batches.
    """

    out: Path
    batch_size: int
    epochs: int
    dim: int
    optimizer: str
    sparse_learning_rate: float
    dense_learning_rate: float
    seed: int
    admission: int | None
    evict_after: int | None
    memory_rows: int | None
    ssd_rows: int
    ssd_paths: tuple[str, ...]
    plot: bool
    rewrite: bool = True


@dataclass(frozen=True)
class _Trained:
    """A trained and evaluated model.

    Attributes:
        run: its description.
        history: of the training.
        reports: of its tables when it was trained.
        tiers: statistics of those with an SSD tier, then, by name.
        result: on the held-out data.
        bayes_auc: the best AUC possible there, where it is known.
    """

    run: RunConfig
    history: History
    reports: list[TableReport]
    tiers: dict[str, Mapping[str, Any]]
    result: Evaluation
    bayes_auc: float | None


def quiet_tensorflow() -> None:
    """Silences TensorFlow's notes and warnings; errors stay. Call before importing it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def result_of(out: Path) -> str:
    """The JSON text of the figures that ``run_training`` has written."""
    return (out / _RESULT).read_text(encoding="utf-8")


def run_training(source: Source, options: TrainOptions, console: Console) -> None:
    """Runs the whole job and writes its results to ``options.out``.

    With admission or eviction the model is trained without and with them; the results are those
    with them, and the other model is a run of its own in ``options.out / "without"``.

    Args:
        source: the data.
        options: the choices.
        console: for the output.

    Raises:
        RestoreMismatch: when the restored evaluation differs.
        DataError: when the data cannot be used.
    """
    _forget_comparison(options.out)
    _prepare_directory(options.out)
    started = time.monotonic()
    console.line(f"Data: {source.describe()}")
    console.line(
        f"Training on the first {source.train_rows:,} rows, {options.epochs} "
        f"{'pass' if options.epochs == 1 else 'passes'}; "
        f"evaluating on the later {source.holdout_rows:,}."
    )
    _report_malformed(source, console)
    run = _plan(source, options)
    rules = run.model.rules()
    if rules is None:
        trained = _train(source, options, run, options.out, console, "Training")
        _report_and_check(source, options, trained, None, console)
    else:
        if options.evict_after is not None and not source.has_timestamps:
            console.line(
                "The data has no timestamps: ages count by the wall clock, from one use in "
                "training to the next. For a CSV, --timestamp-column names a column with times."
            )
        plain = replace(
            run, model=replace(run.model, admission=None, evict_after=None, timestamps=False)
        )
        directory = options.out / _WITHOUT
        _prepare_directory(directory)
        without = _train(source, options, plain, directory, console, f"Training without {rules}")
        trained = _train(source, options, run, options.out, console, f"Training with {rules}")
        _report_and_check(source, options, trained, without, console)
    console.line(
        f"\nFinished in {time.monotonic() - started:.0f} s. Results are in {options.out}/."
    )


def _plan(source: Source, options: TrainOptions) -> RunConfig:
    """Fits the scaler on the first chunk, all that a stream shows before training."""
    stream = source.train()
    first = next(iter(stream), None)
    if first is None:
        raise DataError("the training part has no usable row")
    model = ModelConfig(
        numeric_columns=len(source.numeric_names),
        table_names=table_names(source.category_names),
        dim=options.dim,
        sparse_optimizer=options.optimizer,
        sparse_learning_rate=options.sparse_learning_rate,
        dense_learning_rate=options.dense_learning_rate,
        seed=options.seed,
        admission=options.admission,
        evict_after=options.evict_after,
        timestamps=_ages_by_timestamps(source, options),
        memory_rows=options.memory_rows,
        ssd_rows=options.ssd_rows,
        ssd_paths=options.ssd_paths,
    )
    return RunConfig(source.to_json(), NumericScaler.fit(first.numeric), model, options.batch_size)


def _ages_by_timestamps(source: Source, options: TrainOptions) -> bool:
    return options.evict_after is not None and source.has_timestamps


def _train(
    source: Source,
    options: TrainOptions,
    run: RunConfig,
    directory: Path,
    console: Console,
    heading: str,
) -> _Trained:
    """Trains and evaluates; ``directory`` becomes that of a finished run."""
    from mx_rec.util.initialize import terminate_config_initializer
    from mxrec.cli import training

    # Shuffled times would jump: rows would be old before the data is.
    timed = _ages_by_timestamps(source, options)
    names = run.model.table_names
    examples = training.Input(
        lambda: chain.from_iterable(source.train() for _ in repeat(None, options.epochs)),
        run.model,
        run.scaler,
        options.batch_size,
        shuffle_seed=None if timed else options.seed,
    )
    if options.rewrite:
        _show_gain(run.model, examples, console)
    _init(run.model)
    try:
        console.heading(heading)
        total = source.train_rows * options.epochs
        clock = time.monotonic()
        with console.progress("train", total) as progress:
            history = training.train(
                run.model,
                directory / MODEL_FOLDER,
                examples,
                total=total,
                batch_size=options.batch_size,
                progress=progress,
                table_rows=lambda: count_rows(names),
                evict=run.model.evict_after is not None,
                rewrite=options.rewrite,
            )
        run.save(directory)
        spent = time.monotonic() - clock
        console.line(
            f"{history.rows[-1]:,} rows in {spent:.0f} s "
            f"({history.rows[-1] / spent:,.0f} rows/s); saved."
        )
        reports, tiers = table_reports(names), tiers_of(names)

        console.heading("Evaluation on later data")
        truth = _Truth(source)
        result = training.evaluate(
            run.model,
            directory / MODEL_FOLDER,
            training.Input(truth.stream, run.model, run.scaler, options.batch_size),
            rewrite=options.rewrite,
        )
    finally:
        terminate_config_initializer()

    bayes = truth.bayes_auc()
    console.line(f"AUC {result.auc:.6f}   log loss {result.log_loss:.6f}   {result.rows:,} rows")
    if bayes is not None:
        console.line(
            f"Best AUC possible (Bayes): {bayes:.6f} expected, "
            f"{truth.oracle_auc():.6f} on these labels"
        )
    return _Trained(run, history, reports, tiers, result, bayes)


def _init(model: ModelConfig, if_load: bool = False) -> None:
    from mx_rec.util.initialize import init

    # Dynamic expansion is tables without sizes.
    init(use_dynamic=True, use_dynamic_expansion=model.memory_rows is None, if_load=if_load)


def _show_gain(model: ModelConfig, examples: Input, console: Console) -> None:
    from mx_rec.util.initialize import terminate_config_initializer
    from mxrec.cli.errors_of_tables import errors_of_tables
    from mxrec.cli.gain import measure_gain

    # The tables of this measurement go with it.
    _init(model)
    try:
        with errors_of_tables():
            gain = measure_gain(model, examples.first(_MEASURED_BATCHES))
    finally:
        terminate_config_initializer()
    if gain is not None:
        console.line(
            f"Keys of coming batches are prepared in the input pipeline: {gain.rewritten:.1f} "
            f"steps/s instead of {gain.plain:.1f} on data in memory "
            f"({gain.rewritten / gain.plain:.2f} times)."
        )


def _report_and_check(
    source: Source,
    options: TrainOptions,
    trained: _Trained,
    without: _Trained | None,
    console: Console,
) -> None:
    """Restores the model in a new process and shows and writes all figures.

    Args:
        source: the data.
        options: the choices.
        trained: the model in ``options.out``.
        without: the same without admission and eviction, to compare with; None: there is none.
        console: for the output.

    Raises:
        RestoreMismatch: when the restored evaluation differs.
    """
    result = trained.result
    console.heading("Restored in a new process")
    restored = _evaluate_in_new_process(options.out)
    same = restored == asdict(result)
    console.line(f"AUC {_show(result.auc)} before, {_show(restored['auc'])} after")
    console.line(f"log loss {_show(result.log_loss)} before, {_show(restored['log_loss'])} after")
    console.line(
        f"SHA-256 of all predictions {result.digest[:16]}… before, "
        f"{str(restored['digest'])[:16]}… after"
    )
    if same:
        console.line("Identical to the last digit.")

    console.heading("Tables")
    console.table("Embedding tables after training", HEADER, report_rows(trained.reports))
    if trained.tiers:
        console.table(
            "Their tiers",
            TIER_HEADER,
            [tier_row(name, recorded) for name, recorded in trained.tiers.items()],
        )
        for name, recorded in trained.tiers.items():
            for sentence in tier_advice(recorded):
                console.line(f"{name}: {sentence}")
    figures = {**_figures(trained), "restored": restored, "bayes_auc": trained.bayes_auc}
    if without is not None:
        _show_comparison(without, trained, console)
        figures |= {
            "admission": options.admission,
            "evict_after": options.evict_after,
            "without": _figures(without),
        }
    text = json.dumps(figures, indent=2)
    (options.out / _RESULT).write_text(text + "\n", encoding="utf-8")
    if options.plot:
        _plot(source, options, trained, without, console)
    if not same:
        raise RestoreMismatch(
            f"the evaluation after the restore differs: {restored} instead of {asdict(result)}; "
            f"the checkpoint in {options.out / MODEL_FOLDER} does not hold what was trained"
        )


def _figures(trained: _Trained) -> dict[str, object]:
    return {
        "evaluation": asdict(trained.result),
        "tables": [
            asdict(report)
            | (of_tiers(trained.tiers[report.name]) if report.name in trained.tiers else {})
            for report in trained.reports
        ],
        "history": asdict(trained.history),
    }


def _show_comparison(without: _Trained, trained: _Trained, console: Console) -> None:
    rules = trained.run.model.rules()
    before, after = add_up(without.reports), add_up(trained.reports)
    console.heading(f"Without and with {rules}")
    console.table(
        "All embedding tables after training, AUC on later data",
        COMPARISON_HEADER,
        [
            comparison_row("without", before, without.result.auc),
            comparison_row("with", after, trained.result.auc),
        ],
    )
    console.line(
        f"With {rules}: {after.rows / before.rows:.1%} of the rows, "
        f"{after.bytes / before.bytes:.1%} of the bytes, "
        f"AUC {trained.result.auc - without.result.auc:+.6f}."
    )


def _plot(
    source: Source,
    options: TrainOptions,
    trained: _Trained,
    without: _Trained | None,
    console: Console,
) -> None:
    from mxrec.cli.plots import Curve, plot_comparison, plot_history

    path = options.out / _PLOT
    plot_history(
        trained.history,
        path,
        title=source.describe(),
        holdout_auc=trained.result.auc,
        bayes_auc=trained.bayes_auc,
    )
    console.line(f"Curves: {path}")
    if without is not None:
        path = options.out / _COMPARISON
        plot_comparison(
            Curve("without", without.history, without.result.auc),
            Curve("with", trained.history, trained.result.auc),
            path,
            title=f"Without and with {trained.run.model.rules()}",
            subtitle=source.describe(),
            bayes_auc=trained.bayes_auc,
        )
        console.line(f"Without and with: {path}")


class _Truth:
    """Passes the held-out examples on and keeps the true probabilities, where there are any."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._parts: list[Examples] = []

    def stream(self) -> Iterator[Examples]:
        self._parts = []
        for chunk in self._source.holdout():
            if chunk.probabilities is not None:
                self._parts.append(chunk)
            yield chunk

    def bayes_auc(self) -> float | None:
        probabilities = [
            part.probabilities for part in self._parts if part.probabilities is not None
        ]
        return expected_auc(np.concatenate(probabilities)) if probabilities else None

    def oracle_auc(self) -> float:
        rows = Examples.concatenate(self._parts)
        return roc_auc(rows.labels, np.asarray(rows.probabilities))


def evaluate_run(
    directory: Path,
    console: Console,
    ssd_paths: Sequence[str] | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Evaluates the model of a finished run on its held-out data.

    Args:
        directory: ``--out`` of the run.
        console: for the output.
        ssd_paths: directories for rows on SSD; None: those of the run.
        as_json: print one JSON object instead of text.

    Raises:
        DataError: when the directory holds no run or its data has gone, or ``ssd_paths`` is given
            for a run without rows on SSD.
        OSError: one of the directories is not there or cannot be written.
    """
    run = RunConfig.load(directory)
    if run.model.ssd_rows:
        paths = tuple(_ssd_paths.directories("--ssd-paths", ssd_paths or run.model.ssd_paths))
        run = replace(run, model=replace(run.model, ssd_paths=paths))
    elif ssd_paths:
        raise DataError(f"--ssd-paths: the run in {directory} has no rows on SSD; leave it out")
    source = source_from_json(run.source)

    from mx_rec.util.initialize import terminate_config_initializer
    from mxrec.cli import training

    _init(run.model, if_load=True)
    try:
        result = training.evaluate(
            run.model,
            directory / MODEL_FOLDER,
            training.Input(source.holdout, run.model, run.scaler, run.batch_size),
        )
    finally:
        terminate_config_initializer()
    if as_json:
        print(json.dumps(asdict(result)), flush=True)
    else:
        console.line(f"AUC {result.auc!r}   log loss {result.log_loss!r}   {result.rows:,} rows")
        _report_malformed(source, console)


def _evaluate_in_new_process(directory: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "mxrec.cli", "evaluate", "--out", str(directory), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RestoreMismatch(
            f"`{' '.join(command)}` ended with exit code {done.returncode}:\n"
            f"{done.stderr.strip()[-4000:]}"
        )
    restored: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return restored


def _prepare_directory(out: Path) -> None:
    """Clears the model of an earlier run; never touches a directory that mxrec did not write."""
    model = out / MODEL_FOLDER
    if model.exists() and any(model.iterdir()):
        if not (RunConfig.present(out) or (model / _MARKER).exists()):
            raise DataError(f"{model}: not empty and not from an earlier run; choose another --out")
        shutil.rmtree(model)
    model.mkdir(parents=True, exist_ok=True)
    # An interrupted run has no run.json yet; this file says that the directory may be cleared.
    (model / _MARKER).touch()


def _forget_comparison(out: Path) -> None:
    """Removes what an earlier run with admission or eviction has beside its results."""
    try:
        earlier = json.loads((out / _RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    without = out / _WITHOUT
    if (
        isinstance(earlier, dict)
        and "without" in earlier
        and (without / MODEL_FOLDER / _MARKER).exists()
    ):
        shutil.rmtree(without)
        (out / _COMPARISON).unlink(missing_ok=True)


def _report_malformed(source: Source, console: Console) -> None:
    summary = source.malformed()
    if summary is not None:
        console.line(summary)


def _show(value: object) -> str:
    return "nan" if isinstance(value, float) and math.isnan(value) else repr(value)
