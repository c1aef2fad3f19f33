"""What a model is to reach."""

from dataclasses import dataclass

from training.detection import LARGE_MM
from training.scores import LARGE_TUMOR_ML, Pooled


@dataclass(frozen=True, kw_only=True)
class Target:
    """A measure that has to reach a limit."""

    name: str
    limit: float
    value: float | None
    at_most: bool = False
    """Whether the limit is an upper one."""

    @property
    def is_met(self) -> bool | None:
        """None where nothing was measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def list_targets(pooled: Pooled) -> tuple[Target, ...]:
    """Compare with what a model is to reach."""
    dice, large = pooled.liver.dice, pooled.lesions.large_any_overlap
    tumor, false = pooled.large_tumor_dice, pooled.false_tumor_ml
    lesions = f"lesions of {LARGE_MM:.0f} mm or more, at any overlap"
    cases = f"cases with {LARGE_TUMOR_ML:.0f} ml or more"
    return (
        Target(name="Liver Dice, mean", limit=0.965, value=dice.mean if dice else None),
        Target(name="Liver Dice, lowest", limit=0.94, value=dice.min if dice else None),
        Target(name=f"Tumor Dice, mean, {cases}", limit=0.68, value=tumor.mean if tumor else None),
        Target(name=f"Recall of {lesions}", limit=0.85, value=large.recall),
        Target(name=f"Precision of {lesions}", limit=0.70, value=large.precision),
        Target(
            name="False tumor in a tumor-free liver, ml, most",
            limit=0.5,
            value=false.max if false else None,
            at_most=True,
        ),
    )
