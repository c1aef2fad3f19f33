"""Losses and scores that respect what the annotators did not look for."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from inference.labels import Label
from training.samples import Sample

_CLASS_WEIGHTS = (1.0, 1.0, 2.0)


def soft_dice_loss(probability: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Give one minus the soft Dice coefficient over a whole batch (Milletari et al., 2016)."""
    overlap = (probability * truth).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + truth.sum() + 1)


def organ_loss(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Give the loss of a network with the classes background and organ.

    Parameters
    ----------
    logits:
        (batch, 2, ..., rows, columns).
    labels:
        (batch, ..., rows, columns) int64; every label above 0 is organ.
    """
    truth = (labels > 0).long()
    log_probability = functional.log_softmax(logits.float(), dim=1)
    return {
        "cross_entropy": functional.nll_loss(log_probability, truth),
        "organ": soft_dice_loss(log_probability[:, 1].exp(), truth.float()),
    }


def tumor_loss(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Give the loss of a network with the classes background, liver and tumor.

    Where tumors were not annotated, liver and tumor count as one class: the network is told what
    is organ, and nothing about which of the two it is.

    Parameters
    ----------
    logits:
        (batch, 3, ..., rows, columns).
    labels:
        (batch, ..., rows, columns) int64, 0 background, 1 liver, 2 tumor.
    known:
        (batch, ..., rows, columns) bool, whether liver and tumor are told apart there.
    """
    log_probability = functional.log_softmax(logits.float(), dim=1)
    probability = log_probability.exp()
    weights = torch.tensor(_CLASS_WEIGHTS, device=logits.device)
    told_apart = functional.nll_loss(log_probability, labels, weight=weights, reduction="none")
    organ = torch.logsumexp(log_probability[:, 1:], dim=1)
    merged = -torch.where(labels == 0, log_probability[:, 0], organ)
    certain = known.float()
    return {
        "cross_entropy": torch.where(known, told_apart, merged).mean(),
        "organ": soft_dice_loss(1 - probability[:, 0], (labels > 0).float()),
        "tumor": soft_dice_loss(probability[:, 2] * certain, (labels == 2).float() * certain),
    }


def batch_dice(found: Sequence[torch.Tensor], batches: Sequence[Sample]) -> dict[str, float]:
    """Give the Dice coefficient of organ and tumor, pooled over batches.

    Parameters
    ----------
    found:
        Class of each element, (batch, ..., rows, columns).
    batches:
        The truth. Tumors count where they were annotated; without any there is no value for them.
    """
    organ = [(labels > 0, batch.labels > 0) for labels, batch in zip(found, batches, strict=True)]
    tumor = [
        ((labels == Label.TUMOR) & batch.known, (batch.labels == Label.TUMOR) & batch.known)
        for labels, batch in zip(found, batches, strict=True)
    ]
    score = {"organ": _pooled_dice(organ)}
    if any(bool(truth.any()) for _, truth in tumor):
        score["tumor"] = _pooled_dice(tumor)
    return score


def _pooled_dice(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    overlap = sum(int((found & truth).sum()) for found, truth in pairs)
    total = sum(int(found.sum()) + int(truth.sum()) for found, truth in pairs)
    return 2 * overlap / total if total else 1.0
