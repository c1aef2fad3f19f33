"""Write phantoms for `hepar evaluate`: ``python -m benchmarks.phantoms FOLDER --seeds 8 31``.

They lie there as LiTS is published (``volume-N.nii`` and ``segmentation-N.nii``), N being the seed.
The shipped model was trained on none of the seeds 7 to 999. Pictures of them may be shown to
anybody, which those of patients may not.
"""

import argparse
from pathlib import Path

from dicom_io.nifti import write_nifti
from inference.phantom import PhantomSettings, make_phantom


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs=2, default=(8, 31), metavar=("FIRST", "LAST"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    first, last = arguments.seeds
    for seed in range(first, last + 1):
        phantom = make_phantom(PhantomSettings(seed=seed))
        write_nifti(phantom.volume, arguments.folder / f"volume-{seed}.nii")
        write_nifti(phantom.labels, arguments.folder / f"segmentation-{seed}.nii")
        print(f"phantom {seed}", flush=True)


if __name__ == "__main__":
    main()
