"""The page of results, and the page on a series that was rejected."""

from dataclasses import replace

import numpy as np
import pytest

from inference.findings import Doubt, DoubtCode
from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.measure import measure
from inference.phantom import PhantomSettings, make_phantom
from inference.summary_page import draw_refusal, draw_summary

LIVER_COLOR = (72, 214, 138)
TUMOR_COLOR = (255, 106, 61)
WARNING_COLOR = (240, 184, 64)
MODEL = ModelIdentity(name="test-model", version="1.2.0", digest="ab" * 32, license="For tests.")


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomSettings(shape=(50, 110, 110), spacing_mm=(6.0, 3.2, 3.2)))


@pytest.fixture(scope="module")
def findings(phantom):
    return measure(phantom.volume, phantom.labels)


def count_near(picture, color):
    return np.count_nonzero(np.abs(picture.astype(int) - color).max(axis=2) < 40)


def summarize(phantom, findings, remark=""):
    names = [str(index + 1) for index in range(phantom.volume.shape[0])]
    return draw_summary(
        phantom.volume, phantom.labels, findings, names=names, model=MODEL, remark=remark
    )


def test_summary_shows_planes_and_warns(phantom, findings):
    picture = summarize(phantom, findings)
    assert picture.shape == (1050, 1400, 3)
    assert count_near(picture[112:560], LIVER_COLOR) > 1000
    assert count_near(picture[112:560], TUMOR_COLOR) > 200
    assert count_near(picture[:100], WARNING_COLOR) > 300


def test_doubts_and_what_is_missing_make_a_difference(phantom, findings):
    plain = summarize(phantom, findings)
    remark = summarize(phantom, findings, "3 of 50 announced slices are missing.")
    doubt = Doubt(code=DoubtCode.PARTIAL_LIVER, sentence="The scan ends inside the liver.")
    doubtful = summarize(phantom, replace(findings, doubts=(doubt,)))
    below = np.s_[560:980]
    assert count_near(plain[below], WARNING_COLOR) == 0
    assert count_near(remark[below], WARNING_COLOR) > 300
    assert count_near(doubtful[below], WARNING_COLOR) > 200
    many = summarize(phantom, replace(findings, doubts=(doubt,) * 30))
    assert many.shape[0] > plain.shape[0]


def test_summary_without_and_with_many_lesions(phantom, findings):
    labels = np.minimum(phantom.labels.array, Label.LIVER)
    none = phantom.labels.with_array(labels)
    clean = replace(phantom, labels=none)
    assert count_near(summarize(clean, measure(phantom.volume, none))[112:520], TUMOR_COLOR) == 0
    many = replace(findings, lesions=findings.lesions * 8)
    assert summarize(phantom, many).shape == (1050, 1400, 3)


def test_refusal_says_why_and_shows_nothing_else():
    picture = draw_refusal(["Not evaluable: slices are missing.", "2 missing"], MODEL)
    assert picture.shape == (1050, 1400, 3)
    assert count_near(picture, LIVER_COLOR) == 0
    assert (picture[132:270] > 128).any()
    assert not (picture[280:960] > 128).any()
    assert draw_refusal(["word " * 2000], MODEL).shape[0] > 1050
