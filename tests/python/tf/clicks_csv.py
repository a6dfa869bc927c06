"""Writes a CSV of clicks with a planted signal, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LABEL = "clicked"
# Values of each categorical column.
_VALUES = {"device": 4, "hour": 24, "site": 40, "group": 80, "item": 200, "user": 500}
_NUMBERS = ("price", "age")
_FEW = 100
_ZIPF = 0.8


def write_clicks(path: Path, rows: int, seed: int = 0) -> Path:
    """Writes clicks whose log odds are sums of effects of values and numbers.

    Models find such effects at once. Pairs of values they find at some time of the training, which
    differs from seed to seed, and so would AUC.

    Values of a column follow a Zipf law. Whether something was bought depends on the columns of few
    values in another way; it has the fewest values, so models of two tasks take it for the second.

    Args:
        path: the file.
        rows: of it, without the header line.
        seed: of everything.

    Returns:
        ``path``.
    """
    random = np.random.default_rng(seed)
    odds = np.full((2, rows), -0.8)
    drawn: dict[str, np.ndarray] = {}
    for name, count in _VALUES.items():
        weights = np.arange(1, count + 1.0) ** -_ZIPF
        drawn[name] = random.choice(count, rows, p=weights / weights.sum())
        effects = random.normal(0, 0.8, (2, count))
        if count > _FEW:
            effects[1] = 0
        odds += effects[:, drawn[name]]
    numbers = random.normal(size=(rows, len(_NUMBERS)))
    odds += numbers[:, 0] - 0.5 * numbers[:, 1] ** 2
    clicked, bought = random.random((2, rows)) < 1 / (1 + np.exp(-odds))
    drawn["bought"] = bought.astype(int)
    columns = [[f"{name}{value}" for value in values] for name, values in drawn.items()]
    columns += [[f"{value:.4f}" for value in column] for column in numbers.T]
    columns += [[str(int(value)) for value in clicked]]
    header = ",".join([*drawn, *_NUMBERS, LABEL])
    lines = map(",".join, zip(*columns, strict=True))
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
