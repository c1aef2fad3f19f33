import math

import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")

from training.config import LossTerm
from training.loss import segmentation_loss

SURE = 12.0


def logits_of(classes: list[int], count: int = 3) -> "torch.Tensor":
    """Give logits (1, classes, 1, pixels) that are sure of these classes."""
    hot = torch.nn.functional.one_hot(torch.tensor(classes), count).float() * SURE
    return hot.T[None, :, None, :]


def labels_of(values: list[int]) -> "torch.Tensor":
    return torch.tensor(values)[None, None, :]


def known_of(values: list[bool]) -> "torch.Tensor":
    return torch.tensor(values)[None, None, :]


CASES = {
    "all right": ([0, 1, 2], [0, 1, 2], [True] * 3, (0.0, 0.0, 0.0)),
    "tumor taken for liver, and that is known": (
        [0, 1, 1],
        [0, 1, 2],
        [True] * 3,
        (2 * SURE / 3, 0.0, 0.5),
    ),
    "tumor taken for liver where nobody looked": ([0, 1, 1], [0, 1, 2], [False] * 3, (0, 0, 0)),
    "tumor found where nobody looked": ([0, 1, 2], [0, 1, 1], [False] * 3, (0.0, 0.0, 0.0)),
    "liver missed where nobody looked": (
        [0, 0, 1],
        [0, 1, 1],
        [False] * 3,
        ((SURE - math.log(2)) / 3, 0.25, 0.0),
    ),
    "tumor found outside the rim": ([0, 1, 2], [0, 1, 1], [True, True, False], (0, 0, 0)),
}


@pytest.mark.parametrize("name", CASES)
def test_cross_entropy_and_dice(name: str) -> None:
    found, truth, known, expected = CASES[name]
    inputs = (logits_of(found), labels_of(truth), known_of(known))
    losses = segmentation_loss(("cross_entropy", "dice"), *inputs)
    values = [float(losses[part]) for part in ("cross_entropy", "organ", "tumor")]
    assert values == pytest.approx(expected, abs=0.01)


# The sum over the known voxels of both regions, and their number. Log odds are those of the class
# that the network is sure of to the others, or of both others, which are then twice as likely.
BINARY_CASES = {
    "all right": ([0, 1, 2], [0, 1, 2], [True] * 3, 0.0, 6),
    "tumor taken for liver, and that is known": ([0, 1, 1], [0, 1, 2], [True] * 3, SURE, 6),
    "tumor taken for liver where nobody looked": ([0, 1, 1], [0, 1, 2], [False] * 3, 0.0, 3),
    "liver taken for background": ([0, 0], [0, 1], [True] * 2, SURE - math.log(2), 4),
    "tumor taken for background": ([0, 0], [0, 2], [True] * 2, 2 * SURE - math.log(2), 4),
    "tumor found in a liver that is known": ([1, 2], [1, 1], [True] * 2, SURE - math.log(2), 4),
}


@pytest.mark.parametrize("name", BINARY_CASES)
def test_binary_losses_count_organ_and_tumor_where_they_are_known(name: str) -> None:
    found, truth, known, total, count = BINARY_CASES[name]
    inputs = (logits_of(found), labels_of(truth), known_of(known))
    losses = segmentation_loss(("bce", "focal"), *inputs)
    assert set(losses) == {"bce", "focal"}
    assert float(losses["bce"]) == pytest.approx(total / count, abs=0.01)
    # Where the network is sure and wrong, the focal loss is the cross-entropy.
    assert float(losses["focal"]) == pytest.approx(total / count, abs=0.01)


def test_the_focal_loss_weighs_easy_voxels_down() -> None:
    """Each of both regions has the probability p; (1 - p)^2 of its cross-entropy is left."""
    p = 0.8
    logits = torch.tensor([math.log((1 - p) / p), 0.0]).reshape(1, 2, 1, 1)
    losses = segmentation_loss(("bce", "focal"), logits, labels_of([1]), known_of([True]))
    assert float(losses["bce"]) == pytest.approx(-math.log(p))
    assert float(losses["focal"]) == pytest.approx(-((1 - p) ** 2) * math.log(p))


@pytest.mark.parametrize("term", ["cross_entropy", "dice", "bce", "focal"])
def test_nothing_is_learned_of_tumors_where_nobody_looked(term: LossTerm) -> None:
    logits = torch.randn(1, 3, 1, 6, requires_grad=True)
    labels, nowhere = labels_of([1, 1, 2, 1, 0, 0]), known_of([False] * 6)
    sum(segmentation_loss((term,), logits, labels, nowhere).values()).backward()
    # A step from liver to tumor that leaves their sum alone leaves the loss alone.
    _, liver, tumor = torch.softmax(logits.detach(), dim=1)[0]
    _, liver_gradient, tumor_gradient = logits.grad[0]
    assert torch.allclose(liver_gradient / liver, tumor_gradient / tumor, atol=1e-5)
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("term", ["cross_entropy", "dice", "bce", "focal"])
def test_a_network_without_tumors_takes_them_for_organ(term: LossTerm) -> None:
    losses = segmentation_loss(
        (term,), logits_of([0, 1, 1], count=2), labels_of([0, 1, 2]), known_of([True] * 3)
    )
    assert [float(value) for value in losses.values()] == pytest.approx([0.0], abs=0.01)
