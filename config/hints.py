"""What is allowed, and may still not be what was meant."""

from collections.abc import Iterator

from config.settings import Settings


def settings_hints(settings: Settings) -> Iterator[str]:
    """Give a sentence for each setting that is worth a second look."""
    retention = settings.retention
    if not retention.model_dump(exclude_none=True):
        yield (
            "[retention] is empty, so nothing is ever removed; instances are refused once less "
            "than receive.min_free_bytes is free."
        )
        return
    if not settings.destinations and (retention.results_days or retention.max_gb):
        yield "No peer has the role 'destination': results are sent nowhere, and so they are kept."
    for name in sorted(settings.destinations.keys() - settings.proving.keys()):
        yield (
            f"Files are removed once {name} has accepted the results; peers.{name}.proofs has it "
            "prove first that it keeps them."
        )
