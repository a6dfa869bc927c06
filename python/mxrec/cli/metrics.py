"""Exact metrics of binary predictions, computed in NumPy float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def roc_auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve from ranks; tied scores share their average rank.

    It is the Mann-Whitney statistic: the probability that a random positive has a higher score than
    a random negative, ties counted as one half.

    Args:
        labels: [n] zeros and ones.
        scores: [n] any monotone score.

    Returns:
        The area in [0, 1]; NaN when only one of the two classes is present.
    """
    label_array = np.asarray(labels, dtype=bool).ravel()
    score_array = np.asarray(scores).ravel()
    positives = int(label_array.sum())
    negatives = label_array.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    order = np.argsort(score_array, kind="stable")
    ordered = score_array[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.concatenate((starts[1:], [ordered.size]))
    # Ranks count from 1: a run of ties in [start, end) has the mean rank (start + 1 + end) / 2.
    ranks = np.repeat((starts + 1 + ends) / 2.0, ends - starts)
    positive_ranks = float(ranks[label_array[order]].sum())
    return (positive_ranks - positives * (positives + 1) / 2.0) / (positives * negatives)


def expected_auc(probabilities: npt.ArrayLike) -> float:
    """The AUC that the true probabilities reach on average: the best that any model can do.

    Each example counts as a positive with weight p and as a negative with weight 1 - p.

    Args:
        probabilities: [n] true click probabilities.

    Returns:
        The area in [0.5, 1].
    """
    ordered = np.sort(np.asarray(probabilities, dtype=np.float64).ravel())
    negative = 1.0 - ordered
    below = np.cumsum(negative) - negative
    wins = float(np.sum(ordered * (below + 0.5 * negative)))
    return wins / (float(ordered.sum()) * float(negative.sum()))


def log_loss(labels: npt.ArrayLike, logits: npt.ArrayLike) -> float:
    """Mean cross entropy of logits, stable for logits of any size.

    Args:
        labels: [n] zeros and ones.
        logits: [n] log odds.

    Returns:
        The mean in nats.
    """
    label_array = np.asarray(labels, dtype=np.float64).ravel()
    logit_array = np.asarray(logits, dtype=np.float64).ravel()
    return float(np.mean(np.logaddexp(0.0, logit_array) - label_array * logit_array))
