"""Settings of what people have fetched from a PACS."""

from datetime import time

from pydantic import Field, field_validator, model_validator

from config.section import Section


class PullSettings(Section):
    """Lists of what is to be fetched from a PACS (`hepar pull --accession`, `--list`)."""

    night_from: time = Field(
        time(22),
        description="From this time of this machine's time zone on, rows begin that are to be "
        "fetched at night.",
    )
    night_until: time = Field(
        time(6), description="From this time on none of them begins; one that has begun goes on."
    )
    max_rows: int = Field(1000, ge=1, le=100_000, description="Most rows of one list.")
    max_studies: int = Field(
        20,
        ge=1,
        description="Most studies of one row; where the PACS lists more for a patient ID or an "
        "accession number, none is fetched.",
    )
    query_timeout_s: float = Field(
        60.0, gt=0, description="Longest time for a query that people wait for (`hepar query`)."
    )
    first_retry_s: float = Field(30.0, gt=0, description="Pause before the second attempt.")
    max_retry_s: float = Field(
        900.0,
        gt=0,
        description="Longest pause between attempts; each pause doubles up to this, and is this at "
        "once where the same would be refused again.",
    )
    give_up_h: float = Field(
        72.0, gt=0, description="A row that cannot be fetched for this long becomes FAILED."
    )

    @field_validator("night_from", "night_until")
    @classmethod
    def _is_local(cls, value: time) -> time:
        if value.tzinfo is not None:
            raise ValueError("write it without a time zone, as 22:00: it is local time")
        return value

    @model_validator(mode="after")
    def _night_has_a_length(self) -> "PullSettings":
        if self.night_from == self.night_until:
            raise ValueError("night_from and night_until are the same time")
        return self
