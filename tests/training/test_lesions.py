import numpy as np
import pytest

from training.lesions import paint_lesion


def liver_stack() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((5, 80, 90), dtype=np.uint8)
    labels[:, 10:70, 15:80] = 1
    return np.full(labels.shape, 0.65, dtype=np.float32), labels


def test_lesions_lie_in_the_liver_and_change_the_image_there() -> None:
    image, labels = liver_stack()
    darker = 0
    for seed in range(20):
        painted = paint_lesion(np.random.default_rng(seed), image, labels, 2.0)
        if painted is None:
            continue
        assert painted.image.dtype == np.float32
        assert painted.lesion.sum() >= 6
        assert (labels[2][painted.lesion] == 1).all()
        far = np.ones_like(painted.lesion)
        rows, columns = np.nonzero(painted.lesion)
        far[rows.min() - 9 : rows.max() + 10, columns.min() - 9 : columns.max() + 10] = False
        assert np.allclose(painted.image[2][far], 0.65)
        darker += painted.image[2][painted.lesion].mean() < 0.65
    assert 10 <= darker < 20


@pytest.mark.parametrize("value", [0, 2])
def test_there_is_nothing_to_paint_without_liver(value: int) -> None:
    image, labels = liver_stack()
    labels[:] = value
    assert paint_lesion(np.random.default_rng(0), image, labels, 2.0) is None


def test_the_same_seed_paints_the_same_lesion() -> None:
    image, labels = liver_stack()
    first, second = (paint_lesion(np.random.default_rng(5), image, labels, 2.0) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.image, second.image)
