"""Clusters of distinct CT numbers are those of the voxels, as scikit-learn makes them."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import disk, footprint_rectangle
from sklearn.cluster import DBSCAN, KMeans
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from config.inference import ClusteringSettings, InferenceSettings
from inference.clustering import silhouette as silhouette_module
from inference.clustering.cleanup import Element, clean
from inference.clustering.marker import TumorMarker, make_marker
from inference.clustering.marking import Marking
from inference.clustering.methods import dbscan, gmm, kmeans
from inference.clustering.mixture import fit_mixture
from inference.clustering.points import MOST_CHANNELS, Points, gather
from inference.clustering.silhouette import silhouette
from inference.errors import ClusteringError
from inference.manifest import ModelIdentity
from inference.measure import dice

SPACING_MM = (0.57, 0.57)


def liver(
    seed: int, channels: int = 1, shape: tuple[int, int, int] = (3, 40, 44)
) -> tuple[list[NDArray[np.int16]], NDArray[np.bool_], NDArray[np.bool_]]:
    """Give noisy phases of a liver with a dark tumor and a few bright vessels, and both masks."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    organ = (y - 20) ** 2 + (x - 21) ** 2 < 18**2
    tumor = (y - 14) ** 2 + (x - 15) ** 2 < 6**2
    vessels = (np.abs(y - 27) < 2) & organ
    phases = []
    for phase in range(channels):
        hu = np.where(tumor, 60 + 5 * phase, np.where(vessels, 190, 110 + 10 * phase))
        phases.append(np.rint(hu + rng.normal(0, 14, shape)).astype(np.int16))
    return phases, organ & (z >= 0), tumor


def points_of(seed: int, channels: int = 1) -> Points:
    phases, organ, _ = liver(seed, channels)
    return gather(phases, organ, low_hu=-200, high_hu=250)


def voxels_of(points: Points) -> NDArray[np.float64]:
    return points.scaled[points.places]


def renumbered(labels: NDArray[np.integer]) -> NDArray[np.intp]:
    """Number clusters by their first voxel; noise stays -1."""
    names, first = np.unique(labels, return_index=True)
    order = [name for _, name in sorted(zip(first, names, strict=True)) if name != -1]
    ranks = {name: rank for rank, name in enumerate(order)} | {-1: -1}
    return np.array([ranks[name] for name in labels.tolist()])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_points_stand_for_the_voxels(channels: int) -> None:
    phases, organ, _ = liver(1, channels)
    points = gather(phases, organ, low_hu=40, high_hu=170)
    voxels = np.stack([np.clip(phase[organ], 40, 170) for phase in phases], axis=1)
    assert np.array_equal(points.hu[points.places], voxels)
    assert np.array_equal(np.bincount(points.places), points.weights)
    assert len(np.unique(points.hu, axis=0)) == len(points.hu) < len(voxels)
    expected = StandardScaler().fit_transform(voxels.astype(float))
    assert np.allclose(voxels_of(points), expected, atol=1e-12)


@pytest.mark.parametrize(("channels", "clusters"), [(1, 2), (1, 3), (1, 7), (2, 2), (2, 5), (3, 3)])
def test_kmeans_labels_are_those_of_the_voxels(channels: int, clusters: int) -> None:
    points = points_of(2, channels)
    start = points.scaled[:: len(points.hu) // clusters][:clusters]
    found = kmeans(points.scaled, points.weights, clusters, start)[points.places]
    naive = KMeans(clusters, init=start, n_init=1, tol=0).fit(voxels_of(points))
    assert np.array_equal(found, naive.labels_)


@pytest.mark.parametrize(("channels", "clusters"), [(1, 2), (1, 3), (2, 2)])
def test_kmeans_finds_what_ten_draws_on_the_voxels_find(channels: int, clusters: int) -> None:
    points = points_of(3, channels)
    found = kmeans(points.scaled, points.weights, clusters)[points.places]
    naive = KMeans(clusters, n_init=10, random_state=5).fit(voxels_of(points))
    assert np.array_equal(renumbered(found), renumbered(naive.labels_))


@pytest.mark.parametrize(
    ("channels", "eps_sd", "min_samples"),
    [(1, 0.07, 120), (1, 0.1, 60), (1, 0.04, 40), (1, 0.3, 500), (2, 0.25, 40), (3, 0.5, 30)],
)
def test_dbscan_labels_are_those_of_the_voxels(
    channels: int, eps_sd: float, min_samples: int
) -> None:
    """In the order of their CT numbers, on which the naive labels of border voxels depend."""
    points = points_of(4, channels)
    found = dbscan(points.scaled, points.weights, eps_sd=eps_sd, min_samples=min_samples)
    places = np.sort(points.places)
    naive = DBSCAN(eps=eps_sd, min_samples=min_samples).fit(points.scaled[places]).labels_
    assert np.array_equal(found[places], naive)
    assert {-1, 0} <= set(naive)


def test_a_core_of_dbscan_has_just_enough_voxels() -> None:
    scaled, weights = np.array([[0.0], [1.0], [5.0]]), np.array([4, 3, 6])
    for least, labels in ((7, [0, 0, -1]), (7.5, [-1, -1, -1]), (6, [0, 0, 1])):
        found = dbscan(scaled, weights, eps_sd=1.0, min_samples=least)
        assert found.tolist() == labels


@pytest.mark.parametrize(("channels", "clusters"), [(1, 2), (1, 3), (2, 2), (3, 2)])
def test_the_mixture_is_that_of_the_voxels(channels: int, clusters: int) -> None:
    """From the same start, both run to the end: parameters agree to 1e-5 standard deviations."""
    points = points_of(5, channels)
    start = kmeans(points.scaled, points.weights, clusters)
    mixture = fit_mixture(points.scaled, points.weights, start, tolerance=1e-12)
    voxels = voxels_of(points)
    members = start[points.places]
    naive = GaussianMixture(
        clusters,
        tol=1e-12,
        max_iter=10_000,
        weights_init=np.bincount(members) / len(members),
        means_init=[voxels[members == name].mean(axis=0) for name in range(clusters)],
        precisions_init=[
            np.linalg.inv(np.atleast_2d(np.cov(voxels[members == name].T, bias=True)))
            for name in range(clusters)
        ],
    ).fit(voxels)
    assert np.allclose(mixture.means, naive.means_, atol=1e-5)
    assert np.allclose(mixture.covariances, naive.covariances_, atol=1e-5)
    assert np.allclose(mixture.shares, naive.weights_, atol=1e-5)
    found = mixture.log_densities(points.scaled).argmax(axis=1)[points.places]
    assert np.mean(found != naive.predict(voxels)) <= 1e-4


@pytest.mark.parametrize(("channels", "clusters"), [(1, 2), (1, 5), (2, 3), (3, 2)])
def test_the_silhouette_is_that_of_the_voxels(channels: int, clusters: int) -> None:
    points = points_of(6, channels)
    labels = kmeans(points.scaled, points.weights, clusters)
    expected = silhouette_score(voxels_of(points), labels[points.places])
    assert silhouette(points.scaled, points.weights, labels) == pytest.approx(expected, abs=1e-9)


def test_the_silhouette_of_many_points_is_that_of_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    points = points_of(7, 2)
    labels = kmeans(points.scaled, points.weights, 2)
    exact = silhouette(points.scaled, points.weights, labels)
    monkeypatch.setattr(silhouette_module, "EXACT_POINTS", len(points.hu) // 2)
    assert silhouette(points.scaled, points.weights, labels) == pytest.approx(exact, abs=0.02)


def test_one_cluster_has_no_silhouette_and_a_lone_voxel_counts_as_zero() -> None:
    points, weights = np.array([[0.0], [1.0], [9.0]]), np.array([2, 1, 1])
    assert silhouette(points, weights, np.array([0, 0, 0])) is None
    labels = np.array([0, 0, 1])
    expected = silhouette_score([[0.0], [0.0], [1.0], [9.0]], [0, 0, 0, 1])
    assert silhouette(points, weights, labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "footprint"),
    [
        ("disk 2 px", disk(2)),
        ("disk 4.5 px", np.hypot(*np.indices((9, 9)) - 4) <= 4.5),
        ("square 5 px", footprint_rectangle((11, 11))),
        ("disk 1.2 mm", disk(2)),
        ("square 2.9 mm", footprint_rectangle((11, 11))),
        ("square 0.2 mm", footprint_rectangle((1, 1))),
    ],
)
def test_elements_have_the_size_that_their_words_say(
    text: str, footprint: NDArray[np.bool_]
) -> None:
    mask = np.random.default_rng(8).random((2, 30, 33)) > 0.2
    mask[:, :4, :4] = True
    element = Element.parse(text)
    assert element is not None
    for ours, theirs in (
        (element.dilate(~mask, SPACING_MM), ndimage.binary_dilation),
        (element.erode(mask, SPACING_MM), ndimage.binary_erosion),
    ):
        given = ~mask if theirs is ndimage.binary_dilation else mask
        expected = [theirs(plane, footprint) for plane in given]
        assert np.array_equal(ours, expected)


def test_millimeters_follow_the_spacing_of_rows_and_columns() -> None:
    mask = np.zeros((1, 11, 11), dtype=bool)
    mask[0, 5, 5] = True
    for text, rows, columns in (("square 4 mm", 5, 3), ("disk 4 mm", 5, 3), ("disk 2 px", 5, 5)):
        grown = Element.parse(text).dilate(mask, (2.0, 4.0))
        assert (np.ptp(np.argwhere(grown[0]), axis=0) + 1).tolist() == [rows, columns]


def test_cleaning_stays_in_the_liver_and_keeps_slices_apart() -> None:
    mask = np.zeros((3, 20, 20), dtype=bool)
    mask[1, 5:10, 5:10] = True
    mask[1, 15, 15] = True
    organ = np.zeros_like(mask)
    organ[:, 3:11, 3:11] = True
    found = clean(
        mask,
        organ,
        (1.0, 1.0),
        erosion=Element.parse("disk 1 px"),
        dilation=Element.parse("square 4 px"),
    )
    assert np.array_equal(found[1], organ[1])
    assert not found[[0, 2]].any()
    untouched = clean(mask, organ, (1.0, 1.0), erosion=None, dilation=Element.parse("none"))
    assert np.array_equal(untouched, mask & organ)


@pytest.mark.parametrize("text", ["disk", "disk 2", "ball 2 px", "disk -1 px", "disk 2 cm", ""])
def test_other_words_are_no_element(text: str) -> None:
    with pytest.raises(ClusteringError, match=r"as in 'disk 1\.2 mm'"):
        Element.parse(text)


def marker(engine: str, **clustering: object) -> TumorMarker:
    return TumorMarker(
        settings=InferenceSettings.model_validate(
            {"tumor_engine": engine, "clustering": clustering}
        )
    )


def mark(engine: str, *, channels: int = 1, **clustering: object) -> tuple[Marking, float]:
    phases, organ, tumor = liver(9, channels)
    clustering = {"erosion": "disk 1 px", "dilation": "disk 1.5 px"} | clustering
    marking = marker(engine, **clustering).mark(phases, organ, SPACING_MM)
    return marking, dice(marking.tumor, tumor)


@pytest.mark.parametrize(
    ("engine", "options", "least"),
    [
        ("kmeans", {"clusters": 3}, 0.85),
        ("gmm", {"clusters": 3}, 0.85),
        ("dbscan", {"tumor_cluster": "dark-noise"}, 0.85),
        ("kmeans", {"clusters": 3, "tumor_cluster": "smallest"}, 0.0),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_each_method_finds_the_tumor(
    engine: str, options: dict[str, object], least: float, channels: int
) -> None:
    if engine == "dbscan" and channels == 2:
        options = {**options, "eps_sd": 0.3}
    marking, agreement = mark(engine, channels=channels, **options)
    assert agreement >= least
    assert sum(cluster.voxel_count for cluster in marking.clusters) == marking.points.voxel_count
    means = [cluster.mean_hu[0] for cluster in marking.clusters if cluster.label >= 0]
    assert means == sorted(means)
    assert all(len(cluster.mean_hu) == channels for cluster in marking.clusters)
    assert list(marking.timings_s) == ["gather", "cluster", "clean"]
    assert marking.silhouettes == {}


@pytest.mark.parametrize("engine", ["kmeans", "gmm"])
def test_the_best_silhouette_decides_on_the_number_of_clusters(engine: str) -> None:
    marking, _ = mark(engine, clusters="silhouette")
    points = marking.points
    assert list(marking.silhouettes) == list(range(2, 10))
    best = max(marking.silhouettes, key=marking.silhouettes.__getitem__)
    assert len(marking.clusters) == best
    naive = silhouette_score(voxels_of(points), marking.labels[points.places])
    assert marking.silhouettes[best] == pytest.approx(naive, abs=1e-9)


@pytest.mark.parametrize(
    ("engine", "choice", "is_chosen"),
    [
        ("kmeans", "darkest", lambda hu, _: hu == hu.min()),
        ("kmeans", "auto", lambda hu, _: hu == hu.min()),
        ("kmeans", "brightest", lambda hu, _: hu == hu.max()),
        ("kmeans", "smallest", lambda _, size: size == size.min()),
        ("gmm", "smallest", lambda _, size: size == size.min()),
    ],
)
def test_the_chosen_cluster_is_the_one_asked_for(engine, choice, is_chosen) -> None:
    marking, _ = mark(engine, clusters=3, tumor_cluster=choice)
    hu = np.array([cluster.mean_hu[0] for cluster in marking.clusters])
    size = np.array([cluster.voxel_count for cluster in marking.clusters])
    chosen = [cluster.is_tumor for cluster in marking.clusters]
    assert chosen == is_chosen(hu, size).tolist()
    assert "taken for tumor" in marking.clusters[chosen.index(True)].sentence


def test_noise_is_dark_and_bright_and_dark_noise_is_dark() -> None:
    for choice, brightest_hu in (("auto", 200), ("noise", 200), ("dark-noise", 110)):
        marking, _ = mark("dbscan", tumor_cluster=choice, min_samples=0.05)
        assert (marking.points.hu[marking.chosen].max() > 150) == (brightest_hu > 150)
        assert marking.points.hu[marking.chosen].min() < 60
        assert (marking.labels[marking.chosen] == -1).all()


def test_a_single_dense_cluster_is_liver_without_tumor() -> None:
    marking, _ = mark("dbscan", eps_sd=2.0, min_samples=5, tumor_cluster="darkest")
    assert [cluster.label for cluster in marking.clusters] == [0]
    assert not marking.tumor.any()


def test_the_order_of_rows_and_columns_does_not_matter() -> None:
    phases, organ, _ = liver(10)
    for engine in ("kmeans", "dbscan", "gmm"):
        straight = marker(engine).mark(phases, organ, SPACING_MM).tumor
        flipped = marker(engine).mark([phases[0][:, ::-1]], organ[:, ::-1], SPACING_MM).tumor
        assert np.array_equal(straight, flipped[:, ::-1])


FLAT = np.full((2, 8, 8), 100, dtype=np.int16)
ONE = np.zeros((2, 8, 8), dtype=bool)
ONE[1, 4, 4] = True
TWO_VALUES = np.where(np.arange(8) < 4, 50, 100).astype(np.int16) + 0 * FLAT
ALL = np.ones((2, 8, 8), dtype=bool)


@pytest.mark.parametrize(
    ("engine", "options", "channels", "mask", "says"),
    [
        ("kmeans", {}, [TWO_VALUES], ~ALL, "the liver mask is empty"),
        ("kmeans", {}, [TWO_VALUES], ONE, "all 1 voxels of the liver have the same CT number"),
        ("gmm", {}, [FLAT], ALL, "100 HU, in channel 1 between -200 and 250 HU"),
        ("gmm", {}, [TWO_VALUES, FLAT], ALL, "in channel 2"),
        ("dbscan", {"low_hu": 110}, [TWO_VALUES], ALL, "110 HU, in channel 1"),
        ("kmeans", {}, [TWO_VALUES[:1]], ALL, r"shape \(1, 8, 8\), the liver mask \(2, 8, 8\)"),
        ("kmeans", {}, [TWO_VALUES.astype(float) * np.nan], ALL, "float64 values"),
        ("kmeans", {}, [], ALL, "0 channels were given, 1 to 6"),
        ("kmeans", {}, [TWO_VALUES] * (MOST_CHANNELS + 1), ALL, "7 channels were given"),
        ("kmeans", {"clusters": 3}, [TWO_VALUES], ALL, "2 distinct CT numbers; take fewer"),
        ("gmm", {"clusters": 3}, [TWO_VALUES], ALL, "2 distinct CT numbers; take fewer"),
        ("dbscan", {"min_samples": 1e6}, [TWO_VALUES], ALL, "all is noise; raise"),
        ("gmm", {"tolerance": 1e-300}, None, None, "still changes after"),
    ],
)
def test_what_cannot_be_clustered_is_refused_with_the_remedy(
    engine, options, channels, mask, says, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.clustering.mixture._MOST_ROUNDS", 5)
    if channels is None:
        channels, mask, _ = liver(11)
    with pytest.raises(ClusteringError, match=says):
        marker(engine, **options).mark(channels, mask, SPACING_MM)


def test_the_network_is_no_method_of_clustering() -> None:
    assert make_marker(InferenceSettings()) is None
    with pytest.raises(ClusteringError, match="choose kmeans, dbscan or gmm"):
        TumorMarker(settings=InferenceSettings())


MODEL = ModelIdentity(name="net", version="1.0.0", digest="ab" * 32, license="Free.")


@pytest.mark.parametrize(
    ("engine", "options", "is_other"),
    [
        ("gmm", {}, False),
        ("gmm", {"eps_sd": 0.5}, False),  # which gmm does not use
        ("gmm", {"clusters": 3}, True),
        ("gmm", {"tolerance": 1e-3}, True),
        ("gmm", {"erosion": "none"}, True),
        ("gmm", {"dilation": "disk 2 px"}, True),
        ("gmm", {"low_hu": 0}, True),
        ("gmm", {"high_hu": 200}, True),
        ("gmm", {"tumor_cluster": "smallest"}, True),
        ("kmeans", {}, True),
        ("dbscan", {}, True),
    ],
)
def test_the_papers_change_with_what_changes_the_result(engine, options, is_other) -> None:
    signed, other = marker("gmm").sign(MODEL), marker(engine, **options).sign(MODEL)
    assert (signed.digest != other.digest) is is_other
    assert other.digest != MODEL.digest
    assert other.name == f"net+{engine}"
    assert (other.version, other.license) == (MODEL.version, MODEL.license)
    assert other.parameters["tumor_engine"] == engine
    assert options.keys() & other.parameters.keys() == options.keys() - {"eps_sd"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tumor_engine": "knn"}, "'network', 'kmeans', 'dbscan' or 'gmm'"),
        ({"tumor_engine": "gmm", "clustering": {"tumor_cluster": "noise"}}, "gmm has no noise"),
        ({"clustering": {"low_hu": 300}}, "low_hu must be below high_hu"),
        ({"clustering": {"clusters": 1}}, "greater than or equal to 2"),
        ({"clustering": {"erosion": "2 px"}}, "match pattern"),
        ({"clustering": {"eps_sd": 0}}, "greater than 0"),
    ],
)
def test_wrong_settings_are_refused_at_the_start(settings, says) -> None:
    with pytest.raises(ValueError, match=says):
        InferenceSettings.model_validate(settings)


def test_defaults_are_settings_of_each_method() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for engine in ("kmeans", "dbscan", "gmm"):
            assert marker(engine).settings.clustering == ClusteringSettings()


def test_gmm_starts_from_kmeans_and_may_differ_from_it() -> None:
    points = points_of(12)
    start = kmeans(points.scaled, points.weights, 2)
    found = gmm(points.scaled, points.weights, 2, tolerance=1e-6)
    assert not np.array_equal(start, found)
