"""Sentences and roundings that all results share, so that no two of them say the same otherwise."""

from inference.findings import Findings

NOT_REVIEWED = (
    "Made by an AI algorithm, not reviewed by a physician. For research use; not a medical device."
)


def round_volume_ml(volume_ml: float) -> float:
    """Round a volume to what it means: a microliter below 10 ml, 0.1 ml from 100 ml on."""
    return round(volume_ml, 3 if volume_ml < 10 else 2 if volume_ml < 100 else 1)


def summary_sentence(findings: Findings) -> str:
    """Say the result in one sentence."""
    liver = f"liver volume {round_volume_ml(findings.organ_volume_ml):g} ml"
    if not findings.lesions:
        return f"No lesion segmented; {liver}."
    count = len(findings.lesions)
    return (
        f"{count} {'lesion' if count == 1 else 'lesions'} segmented, "
        f"total {round_volume_ml(findings.tumor_volume_ml):g} ml, "
        f"{100 * findings.tumor_burden:.2f} % of the liver; {liver}."
    )


def list_caveats(findings: Findings, remark: str) -> list[str]:
    """Say what a reader should know before believing a result.

    Parameters
    ----------
    findings
        With what is doubtful about them.
    remark
        What is known to be missing of the series; may be empty.
    """
    incomplete = [f"The series is incomplete: {remark}"] if remark else []
    return [*incomplete, *(f"Doubtful: {doubt.sentence}" for doubt in findings.doubts)]
