import math

import pytest

torch = pytest.importorskip("torch", reason="torch comes with the extra 'train'")

from training.loss import organ_loss, tumor_loss

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
def test_tumor_loss(name: str) -> None:
    found, truth, known, expected = CASES[name]
    losses = tumor_loss(logits_of(found), labels_of(truth), known_of(known))
    values = [float(losses[part]) for part in ("cross_entropy", "organ", "tumor")]
    assert values == pytest.approx(expected, abs=0.01)


def test_nothing_is_learned_of_tumors_where_nobody_looked() -> None:
    logits = torch.randn(1, 3, 1, 6, requires_grad=True)
    labels, nowhere = labels_of([1, 1, 2, 1, 0, 0]), known_of([False] * 6)
    sum(tumor_loss(logits, labels, nowhere).values()).backward()
    # A step from liver to tumor that leaves their sum alone leaves the loss alone.
    _, liver, tumor = torch.softmax(logits.detach(), dim=1)[0]
    _, liver_gradient, tumor_gradient = logits.grad[0]
    assert torch.allclose(liver_gradient / liver, tumor_gradient / tumor, atol=1e-5)


def test_organ_loss_takes_tumors_for_organ() -> None:
    losses = organ_loss(logits_of([0, 1, 1], count=2), labels_of([0, 1, 2]))
    assert float(losses["cross_entropy"]) == pytest.approx(0.0, abs=0.01)
    assert float(losses["organ"]) == pytest.approx(0.0, abs=0.01)
