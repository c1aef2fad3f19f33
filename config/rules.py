"""Settings of the selection rules."""

from enum import StrEnum

from pydantic import Field, model_validator

from config.section import Section

Scalar = str | int | float | bool


class RuleAction(StrEnum):
    """What a selection rule decides."""

    PROCESS = "process"
    SKIP = "skip"


class Condition(Section):
    """A test of one attribute; all given parts must hold."""

    equals: Scalar | None = Field(None, description="The value is exactly this.")
    one_of: tuple[Scalar, ...] | None = Field(None, description="The value is one of these.")
    matches: str | None = Field(None, description="A regular expression is found in the value.")
    contains: str | None = Field(
        None, description="One of the values of a multi-valued attribute is exactly this."
    )
    min: float | None = Field(None, description="The number is at least this.")
    max: float | None = Field(None, description="The number is at most this.")
    present: bool | None = Field(None, description="The attribute is there and not empty.")

    @model_validator(mode="after")
    def _says_something(self) -> "Condition":
        if not self.model_fields_set:
            raise ValueError(
                "a condition needs one of: " + ", ".join(sorted(type(self).model_fields))
            )
        return self


class RuleSettings(Section):
    """One selection rule; the first rule whose conditions all hold decides."""

    name: str = Field(min_length=1, description="Name of the rule, as shown to people.")
    action: RuleAction = Field(description="'process' or 'skip'.")
    reason: str = Field("", description="Sentence for the administrator; empty means the name.")
    when: dict[str, Scalar | Condition] = Field(
        default_factory=dict,
        description="DICOM keyword (or CallingAETitle, InstanceCount) to a value or a condition; "
        "empty means always.",
    )


def default_rules() -> tuple[RuleSettings, ...]:
    """Give the rules of a node whose settings name none."""
    return (
        RuleSettings(
            name="localizer",
            action=RuleAction.SKIP,
            reason="It is a localizer (scout), not an axial scan.",
            when={"ImageType": Condition(contains="LOCALIZER")},
        ),
        RuleSettings(
            name="not a CT",
            action=RuleAction.SKIP,
            reason="The modality is not CT.",
            when={"Modality": Condition(matches="^(?!CT$)")},
        ),
        RuleSettings(
            name="CT",
            action=RuleAction.PROCESS,
            reason="It is a CT series.",
            when={"Modality": "CT"},
        ),
    )
