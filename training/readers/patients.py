"""Who is who across data sets, and which fold a patient belongs to.

Training volumes 28 to 47 of LiTS are patients 1 to 20 of 3D-IRCADb-01, in this order, and volumes
0 and 1 show one person. The scans of Task03_Liver of the Medical Segmentation Decathlon are the
training volumes of LiTS under the same numbers. (All three from memory of the data sets, not from
their papers.) The names of patients are those of the project's compact set.
"""

from hashlib import sha256

FOLDS = 5
_FIRST_IRCADB_VOLUME = 28
_IRCADB_PATIENTS = 20
_TWICE_SCANNED = (0, 1)
_SALT = "fold 322"
"""Chosen so that the folds of 3D-IRCADb-01, CHAOS and LiTS are about equally large."""


def ircadb_patient(number: int) -> str:
    """Name a patient of 3D-IRCADb-01."""
    return f"ircad{number:02d}"


def lits_patient(volume: int) -> str:
    """Name the patient of a training volume of LiTS."""
    number = volume - _FIRST_IRCADB_VOLUME + 1
    if 1 <= number <= _IRCADB_PATIENTS:
        return ircadb_patient(number)
    return "litsA" if volume in _TWICE_SCANNED else f"lits{volume:02d}"


def assign_fold(patient_id: str, folds: int = FOLDS) -> int:
    """Give the fold of a patient whose data set names none.

    It follows from a hash of the patient alone. So it is the same in every data set that has the
    patient, whatever else is trained on: what was held out once is never trained on later. The
    price is that the folds of other data sets may differ in size.

    Parameters
    ----------
    patient_id:
        As in `ScanEntry`.
    folds:
        Their number.
    """
    digest = sha256(f"{_SALT} {patient_id}".encode()).digest()
    return int.from_bytes(digest[:8]) % folds
