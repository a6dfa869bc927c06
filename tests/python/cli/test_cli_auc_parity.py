"""The model on mxrec tables is as good as the same model on static ``tf.Variable`` tables."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorflow_support import needs_tensorflow

from mxrec.cli.config import ModelConfig, table_names
from mxrec.cli.examples import Examples, NumericScaler
from mxrec.cli.sources import FileSource
from mxrec.cli.vocabulary import StaticVocabulary

SEEDS = (1, 2)
EPOCHS = 3
BATCH_SIZE = 256
TOLERANCE = 0.003


def adult() -> Path:
    default = Path(__file__).resolve().parents[4] / "shared" / "data"
    return Path(os.environ.get("MXREC_TEST_DATA", default)) / "adult.csv.gz"


@needs_tensorflow
@pytest.mark.skipif(
    not adult().is_file(), reason="no adult.csv.gz; MXREC_TEST_DATA names its folder"
)
def test_auc_equals_that_of_static_variables(tmp_path: Path) -> None:
    from static_twin import train_and_evaluate

    source = FileSource(adult(), "income", 0.2)
    train = Examples.concatenate(list(source.train()))
    holdout = Examples.concatenate(list(source.holdout()))
    scaler = NumericScaler.fit(train.numeric)
    vocabulary = StaticVocabulary(train)
    config = ModelConfig(
        numeric_columns=len(source.numeric_names),
        table_names=table_names(source.category_names),
        sparse_optimizer="adagrad",
        sparse_learning_rate=0.02,
    )
    areas: dict[str, list[float]] = {"mxrec": [], "static": []}
    for seed in SEEDS:
        ours = replace(config, seed=seed)
        twin = replace(ours, static_rows=vocabulary.rows)
        for kind, model, data in (
            ("mxrec", ours, (train, holdout)),
            ("static", twin, (vocabulary(train), vocabulary(holdout))),
        ):
            result = train_and_evaluate(
                model,
                scaler,
                *data,
                epochs=EPOCHS,
                batch_size=BATCH_SIZE,
                directory=tmp_path / f"{kind}-{seed}",
            )
            assert result.rows == len(holdout)
            areas[kind].append(result.auc)
    # Initial rows come from different generators: single runs differ by chance, means agree.
    print(areas)
    assert np.mean(areas["static"]) > 0.89
    assert np.mean(areas["mxrec"]) == pytest.approx(np.mean(areas["static"]), abs=TOLERANCE)
