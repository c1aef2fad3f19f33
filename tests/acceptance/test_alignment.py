"""Segments lie where they should in every geometry, in three decoders, after a whole node."""

from itertools import permutations, product

import numpy as np
import pytest

from benchmarks.alignment import GEOMETRIES, REFUSED, Outcome, make_labels, run
from benchmarks.viewers.voxels import DECODERS, hash_points, viewers_folder

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, program, make_shared_orthanc) -> Outcome:
    for name in ("storescu", "node"):
        program(name)
    if not (viewers_folder() / "node_modules").exists():
        pytest.skip("dcmjs is not installed (docker/install-viewers installs it)")
    return run(tmp_path_factory.mktemp("alignment"), make_shared_orthanc())


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_segment_lies_where_it_was_drawn(outcome: Outcome, geometry: str, decoder: str):
    assert outcome.decoded[decoder][geometry] == outcome.truth[geometry]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_frame_of_reference_is_that_of_the_series(outcome: Outcome, geometry: str):
    source, segmentation = outcome.frames_of_reference[geometry]
    assert segmentation == source


@pytest.mark.parametrize("geometry", REFUSED)
def test_what_cannot_be_aligned_is_refused_with_its_code(outcome: Outcome, geometry: str):
    _, code = REFUSED[geometry]
    assert outcome.refusals[geometry] == code


def test_no_turn_or_reflection_maps_a_segment_of_the_phantom_to_itself():
    labels = make_labels()
    points = [np.argwhere(labels == value).astype(float) for value in (1, 2)]
    middle = (np.array(labels.shape) - 1) / 2
    for own in points:
        hashes = {
            hash_points((own - middle)[:, axes] * signs)
            for axes in permutations(range(3))
            for signs in product((-1, 1), repeat=3)
        }
        assert len(hashes) == 48
