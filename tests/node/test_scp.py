"""What a sender sees: real associations with the receiver on a free port."""

import errno
import subprocess
from pathlib import Path

import pytest
from listening import CT, bare, data_set_bytes, store
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from dicom_io.ct import write_ct_series
from inference.phantom import PhantomSettings, make_phantom


def test_echo_and_store_keep_the_bytes(listen, small_ct: list[Path]):
    node = listen()
    assoc = node.associate(CT, build_context(Verification))
    assert assoc.send_c_echo().Status == 0
    for path in small_ct:
        assert assoc.send_c_store(path).Status == 0
    assoc.release()
    sent = dcmread(small_ct[0])
    record = node.catalog.find_instance(sent.SOPInstanceUID)
    kept = node.files.absolute(record.path)
    assert kept.relative_to(node.files.data_dir).parts == (
        "instances",
        sent.StudyInstanceUID,
        sent.SeriesInstanceUID,
        f"{sent.SOPInstanceUID}.dcm",
    )
    assert kept.read_bytes().endswith(data_set_bytes(bare(small_ct[0])))
    assert node.catalog.get_series(sent.SeriesInstanceUID).instance_count == len(small_ct)
    assert not list((node.files.data_dir / "spool").iterdir())


def report_on(assoc: Association, transaction_uid: str | None) -> int:
    """Report storage commitment as an archive does, in the role of the provider."""
    report = Dataset()
    report.RetrieveAETitle = "ARCHIVE"
    if transaction_uid is not None:
        report.TransactionUID = transaction_uid
    status, _ = assoc.send_n_event_report(
        report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(status.Status)


def test_an_archive_may_report_and_not_send(listen, small_ct: list[Path]):
    node = listen()
    ae = AE(ae_title="ARCHIVE")
    contexts = [build_context(StorageCommitmentPushModel), CT]
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    assoc = ae.associate(
        "127.0.0.1", node.port, contexts=contexts, ae_title="HEPAR", ext_neg=[role]
    )
    assert report_on(assoc, "2.25.1") == 0x0110, "there is no such request"
    assert report_on(assoc, None) == 0x0115
    refused = assoc.send_c_store(small_ct[0])
    assert (refused.Status, refused.ErrorComment) == (0x0124, "Not a source of this node")
    assoc.release()
    assert node.catalog.find_instance(dcmread(small_ct[0]).SOPInstanceUID) is None


@pytest.mark.parametrize(
    ("calling", "called"),
    [("NOBODY", "HEPAR"), ("FAR", "HEPAR"), ("SCANNER", "SOMEBODY")],
    ids=["unknown AE title", "wrong address", "wrong called AE title"],
)
def test_unknown_callers_are_rejected(listen, calling: str, called: str):
    assoc = listen().associate(CT, calling=calling, called=called)
    assert assoc.is_rejected
    assert assoc.acceptor.primitive.reason_str == (
        "Called AE title not recognised"
        if calling == "SCANNER"
        else "Calling AE title not recognised"
    )


def test_association_limit_is_kept(listen):
    node = listen(node={"max_associations": 1})
    first = node.associate(CT)
    pdus = []
    # The answer on the wire: pynetdicom's requestor at times aborts after it has read a rejection.
    second = AE(ae_title="SCANNER").associate(
        "127.0.0.1",
        node.port,
        contexts=[CT],
        ae_title="HEPAR",
        evt_handlers=[(evt.EVT_PDU_RECV, lambda event: pdus.append(event.pdu))],
    )
    assert first.is_established
    assert not second.is_established
    [rejection] = pdus
    assert isinstance(rejection, A_ASSOCIATE_RJ)
    assert (rejection.result, rejection.source, rejection.reason_diagnostic) == (2, 3, 2)
    assert rejection.reason_str == "Local limit exceeded"
    first.release()


def test_unsupported_sop_class_is_rejected_in_its_context(listen):
    node = listen()
    assoc = node.associate(CT, build_context(MRImageStorage))
    assert [c.abstract_syntax for c in assoc.accepted_contexts] == [CTImageStorage]
    assert [c.abstract_syntax for c in assoc.rejected_contexts] == [MRImageStorage]
    assoc.release()


def test_further_sop_classes_by_setting(listen):
    node = listen(receive={"extra_sop_classes": [MRImageStorage]})
    assoc = node.associate(build_context(MRImageStorage))
    assert assoc.is_established
    assoc.release()


def _other_sop_instance(ds: Dataset) -> None:
    ds.SOPInstanceUID = "1.2.3"


def _other_sop_class(ds: Dataset) -> None:
    ds.SOPClassUID = MRImageStorage


def _no_series_uid(ds: Dataset) -> None:
    ds.SeriesInstanceUID = ""


def _no_study_uid(ds: Dataset) -> None:
    del ds.StudyInstanceUID


@pytest.mark.parametrize(
    "damage", [_other_sop_instance, _other_sop_class, _no_series_uid, _no_study_uid]
)
def test_mismatching_data_sets_get_a900(listen, small_ct: list[Path], damage):
    node = listen()
    ds = bare(small_ct[0])
    uid = ds.SOPInstanceUID
    damage(ds)
    assoc = node.associate(CT)
    answer = store(assoc, data_set_bytes(ds), uid)
    assoc.release()
    assert answer.Status == 0xA900
    assert answer.ErrorComment
    assert node.catalog.list_series() == []
    assert not list((node.files.data_dir / "spool").iterdir())


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.03", "/1.2.3", "1..2"])
def test_hostile_uids_never_become_paths(listen, small_ct: list[Path], uid: str):
    node = listen()
    content = data_set_bytes(bare(small_ct[0]))
    series_uid = str(dcmread(small_ct[0]).SeriesInstanceUID)
    padded = series_uid.encode() + (b"\0" if len(series_uid) % 2 else b"")
    forged = uid.encode()[: len(padded)].ljust(len(padded), b"\0")
    assoc = node.associate(CT)
    answer = store(assoc, content.replace(padded, forged), str(dcmread(small_ct[0]).SOPInstanceUID))
    assoc.release()
    assert answer.Status == 0xA900
    assert not list((node.files.data_dir / "instances").iterdir())


@pytest.mark.filterwarnings("ignore:Expected explicit VR", "ignore:End of file reached")
@pytest.mark.parametrize("content", [b"\0", 300 * b"\xff", b"this is no DICOM data set at all"])
def test_undecodable_data_sets_get_c000(listen, small_ct: list[Path], content: bytes):
    node = listen()
    assoc = node.associate(CT)
    answer = store(assoc, content, "1.2.3")
    assoc.release()
    assert answer.Status in (0xC000, 0xA900)
    assert answer.ErrorComment


def test_a_data_set_cut_short_gets_c000(listen, small_ct: list[Path]):
    node = listen()
    ds = bare(small_ct[0])
    assoc = node.associate(CT)
    answer = store(assoc, data_set_bytes(ds)[:-100], ds.SOPInstanceUID)
    assoc.release()
    assert answer.Status == 0xC000
    assert node.catalog.find_instance(ds.SOPInstanceUID) is None


def test_a_disk_that_fills_up_gets_a700_and_keeps_nothing(
    listen, small_ct: list[Path], monkeypatch: pytest.MonkeyPatch
):
    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    node = listen()
    monkeypatch.setattr(Path, "write_bytes", write_half)
    assoc = node.associate(CT)
    answer = assoc.send_c_store(small_ct[0])
    assoc.release()
    assert answer.Status == 0xA700
    assert not list((node.files.data_dir / "spool").iterdir())


def test_short_disk_gets_a700_before_anything_is_written(listen, small_ct: list[Path]):
    node = listen(receive={"min_free_bytes": 10**18})
    assoc = node.associate(CT)
    answer = assoc.send_c_store(small_ct[0])
    assoc.release()
    assert answer.Status == 0xA700
    assert answer.ErrorComment == "Disk short"
    assert not list((node.files.data_dir / "spool").iterdir())
    assert node.catalog.list_series() == []


def test_same_bytes_again_are_stored_once(listen, small_ct: list[Path]):
    node = listen()
    for _ in range(2):
        assoc = node.associate(CT)
        assert assoc.send_c_store(small_ct[0]).Status == 0
        assoc.release()
    [series] = node.catalog.list_series()
    assert (series.instance_count, series.has_conflicts) == (1, False)


def test_other_bytes_under_the_same_uid_are_kept_apart(listen, small_ct: list[Path]):
    node = listen()
    changed = dcmread(small_ct[0])
    changed.InstanceNumber = 999
    assoc = node.associate(CT)
    assert assoc.send_c_store(small_ct[0]).Status == 0
    assert assoc.send_c_store(changed).Status == 0
    assoc.release()
    [series] = node.catalog.list_series()
    assert (series.instance_count, series.has_conflicts) == (1, True)
    folder = node.files.absolute(node.catalog.instance_paths(series.series_uid)[0]).parent
    assert sorted(dcmread(path).InstanceNumber for path in folder.iterdir())[-1] == 999
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_other_transfer_syntaxes_are_kept_as_they_come(
    listen, small_ct: list[Path], tmp_path: Path, syntax: str
):
    [path, *_] = write_ct_series(
        make_phantom(
            PhantomSettings(seed=1, shape=(12, 32, 32), spacing_mm=(10.0, 12.0, 12.0), lesions=())
        ).volume,
        tmp_path / "ct",
        transfer_syntax_uid=syntax,
    )
    node = listen()
    assoc = node.associate(build_context(CTImageStorage, syntax))
    assert assoc.send_c_store(path).Status == 0
    assoc.release()
    sent = dcmread(path)
    kept = dcmread(node.files.absolute(node.catalog.find_instance(sent.SOPInstanceUID).path))
    assert kept.file_meta.TransferSyntaxUID == syntax
    assert (kept.pixel_array == sent.pixel_array).all()


@pytest.mark.peer
def test_dcmtk_speaks_to_it(listen, small_ct: list[Path], program):
    node = listen()
    options = ["-aet", "SCANNER", "-aec", "HEPAR", "127.0.0.1", str(node.port)]
    subprocess.run([program("echoscu"), *options], check=True, timeout=30)
    subprocess.run([program("storescu"), *options, *map(str, small_ct)], check=True, timeout=60)
    [series] = node.catalog.list_series()
    assert series.instance_count == len(small_ct)
    refused = subprocess.run(
        [program("echoscu"), "-aet", "NOBODY", "127.0.0.1", str(node.port)],
        check=False,
        timeout=30,
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert "Calling AE Title Not Recognized" in refused.stderr + refused.stdout
