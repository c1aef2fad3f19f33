"""Cross-entropy and Dice that respect what the annotators did not look for."""

import torch
from torch.nn import functional

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
        (batch, 2, rows, columns).
    labels:
        (batch, rows, columns) int64; every label above 0 is organ.
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
        (batch, 3, rows, columns).
    labels:
        (batch, rows, columns) int64, 0 background, 1 liver, 2 tumor.
    known:
        (batch, rows, columns) bool, whether liver and tumor are told apart there.
    """
    log_probability = functional.log_softmax(logits.float(), dim=1)
    probability = log_probability.exp()
    weights = torch.tensor(_CLASS_WEIGHTS)
    told_apart = functional.nll_loss(log_probability, labels, weight=weights, reduction="none")
    organ = torch.logsumexp(log_probability[:, 1:], dim=1)
    merged = -torch.where(labels == 0, log_probability[:, 0], organ)
    certain = known.float()
    return {
        "cross_entropy": torch.where(known, told_apart, merged).mean(),
        "organ": soft_dice_loss(1 - probability[:, 0], (labels > 0).float()),
        "tumor": soft_dice_loss(probability[:, 2] * certain, (labels == 2).float() * certain),
    }
