"""Losses and scores that respect what the annotators did not look for."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from inference.labels import Label
from training.config import LossTerm
from training.samples import Sample

_CLASS_WEIGHTS = (1.0, 1.0, 2.0)
_FOCUS = 2.0
"""Gamma of the focal loss; the best one of its paper."""


def segmentation_loss(
    terms: Sequence[LossTerm], logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Give the terms of a loss, which is their sum.

    Where tumors were not annotated, liver and tumor count as one class: the network is told what
    is organ, and nothing about which of the two it is. A network without the class tumor is told
    what is organ, too.

    Parameters
    ----------
    terms:
        ``cross_entropy`` of the classes, tumor counting twice. ``dice``, one minus the soft Dice
        coefficient of organ and of tumor (Milletari et al., V-Net, 2016). ``bce``, the binary
        cross-entropy of organ and tumor. ``focal``, the same with the easy voxels weighted down
        (Lin et al., Focal loss, 2017).
    logits:
        (batch, 2 or 3, ..., rows, columns), of background, liver and perhaps tumor.
    labels:
        (batch, ..., rows, columns) int64, 0 background, 1 liver, 2 tumor.
    known:
        (batch, ..., rows, columns) bool, whether liver and tumor are told apart there.

    Returns
    -------
    dict
        By name; of the Dice there are ``organ`` and ``tumor``.
    """
    losses: dict[str, torch.Tensor] = {}
    for term in terms:
        losses |= _TERMS[term](logits.float(), labels, known)
    return losses


def soft_dice_loss(probability: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Give one minus the soft Dice coefficient over a whole batch (Milletari et al., 2016)."""
    overlap = (probability * truth).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + truth.sum() + 1)


def _cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> dict[str, torch.Tensor]:
    log_probability = functional.log_softmax(logits, dim=1)
    organ = torch.logsumexp(log_probability[:, 1:], dim=1)
    merged = -torch.where(labels == 0, log_probability[:, 0], organ)
    if logits.shape[1] <= Label.TUMOR:
        return {"cross_entropy": merged.mean()}
    weights = torch.tensor(_CLASS_WEIGHTS, device=logits.device)
    told_apart = functional.nll_loss(log_probability, labels, weight=weights, reduction="none")
    return {"cross_entropy": torch.where(known, told_apart, merged).mean()}


def _dice(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> dict[str, torch.Tensor]:
    probability = functional.softmax(logits, dim=1)
    losses = {"organ": soft_dice_loss(1 - probability[:, 0], (labels > 0).float())}
    if logits.shape[1] > Label.TUMOR:
        tumor = (labels == Label.TUMOR).float()
        losses["tumor"] = soft_dice_loss(probability[:, Label.TUMOR] * known, tumor * known)
    return losses


def _binary(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> dict[str, torch.Tensor]:
    odds, truth, counts = _regions(logits, labels, known)
    loss = functional.binary_cross_entropy_with_logits(odds, truth, reduction="none")
    return {"bce": (loss * counts).sum() / counts.sum()}


def _focal(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> dict[str, torch.Tensor]:
    from monai.losses import FocalLoss

    odds, truth, counts = _regions(logits, labels, known)
    loss = FocalLoss(gamma=_FOCUS, reduction="none")(odds, truth)
    return {"focal": (loss * counts).sum() / counts.sum()}


def _regions(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See the classes as two regions that are there or not, the tumor inside the organ.

    The log odds of a region are what a network with a sigmoid for each region would give; so the
    binary losses need no other network.

    Returns
    -------
    tuple
        Log odds, truth and whether it is known, each (batch, regions, ...) float.
    """
    odds = [torch.logsumexp(logits[:, 1:], dim=1) - logits[:, 0]]
    truth, counts = [labels > 0], [torch.ones_like(known)]
    if logits.shape[1] > Label.TUMOR:
        others = torch.logsumexp(logits[:, : Label.TUMOR], dim=1)
        odds.append(logits[:, Label.TUMOR] - others)
        truth.append(labels == Label.TUMOR)
        counts.append(known)
    return (
        torch.stack(odds, dim=1),
        torch.stack(truth, dim=1).float(),
        torch.stack(counts, dim=1).float(),
    )


_TERMS = {"cross_entropy": _cross_entropy, "dice": _dice, "bce": _binary, "focal": _focal}


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
