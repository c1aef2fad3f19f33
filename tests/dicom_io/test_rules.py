"""Selection rules: which decides, and in which words."""

import warnings

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from config.rules import Condition, RuleAction, RuleSettings, default_rules
from dicom_io.headers import read_attributes
from dicom_io.rules import (
    Decision,
    check_rules,
    decide,
    describe_conditions,
    explain,
    may_process,
    names_sender,
)


def _rule(when, name="r", action=RuleAction.PROCESS, reason=""):
    return RuleSettings.model_validate(
        {"name": name, "action": action, "reason": reason, "when": when}
    )


@pytest.fixture
def attributes():
    """Attributes of an abdominal CT."""
    dataset = Dataset()
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesDescription = "Abdomen 5.0 B30f "
    dataset.SliceThickness = "5.0"
    dataset.PixelSpacing = ["0.7", "0.8"]
    dataset.KVP = ""
    dataset.Rows = 512
    dataset.PatientName = "Doe^Jane"
    return dataset


@pytest.mark.parametrize(
    ("when", "matched"),
    [
        ({}, True),
        ({"Modality": "CT"}, True),
        ({"Modality": "ct"}, False),
        ({"Modality": "CT", "Rows": 512}, True),
        ({"Modality": "CT", "Rows": 256}, False),
        ({"SliceThickness": 5}, True),
        ({"SliceThickness": 5.0}, True),
        ({"SliceThickness": "5.0"}, True),
        ({"SliceThickness": "5"}, False),
        ({"SeriesDescription": "Abdomen 5.0 B30f"}, True),
        ({"SeriesDescription": 5}, False),
        ({"ImageType": "ORIGINAL"}, False),
        ({"ImageType": r"ORIGINAL\PRIMARY\AXIAL"}, True),
        ({"ImageType": {"contains": "PRIMARY"}}, True),
        ({"ImageType": {"contains": "PRIM"}}, False),
        ({"Modality": {"contains": "CT"}}, True),
        ({"ImageType": {"matches": r"PRIMARY\\AXIAL$"}}, True),
        ({"SeriesDescription": {"matches": "(?i)abdomen"}}, True),
        ({"SeriesDescription": {"matches": "(?i)^thorax"}}, False),
        ({"Modality": {"one_of": ["MR", "CT"]}}, True),
        ({"Modality": {"one_of": ["MR", "PT"]}}, False),
        ({"SliceThickness": {"one_of": [2.5, 5]}}, True),
        ({"SliceThickness": {"min": 1, "max": 5}}, True),
        ({"SliceThickness": {"max": 4.9}}, False),
        ({"PixelSpacing": {"min": 0.7, "max": 0.8}}, True),
        ({"PixelSpacing": {"min": 0.75}}, False),
        ({"SeriesDescription": {"min": 0}}, False),
        ({"KVP": {"present": False}}, True),
        ({"KVP": {"present": True}}, False),
        ({"KVP": {"min": 0}}, False),
        ({"KVP": ""}, False),
        ({"ContrastBolusAgent": {"present": False}}, True),
        ({"ContrastBolusAgent": {"matches": ""}}, False),
        ({"Modality": {"present": True, "equals": "CT"}}, True),
        ({"PatientName": "Doe^Jane"}, True),
        ({"CallingAETitle": "SCANNER1"}, True),
        ({"CallingAETitle": {"matches": "^SCAN"}}, True),
        ({"CallingAETitle": "PACS"}, False),
        ({"InstanceCount": {"min": 20}}, True),
        ({"InstanceCount": {"max": 20}}, False),
    ],
)
def test_conditions(attributes, when, matched):
    facts = {"calling_ae_title": "SCANNER1", "instance_count": 129}
    rule = _rule(when)
    check_rules([rule])
    decision = decide([rule], attributes, **facts)
    assert (decision.rule == "r") is matched
    assert [trial.matched for trial in explain([rule], attributes, **facts)] == [matched]


def test_unknown_sender_fulfills_no_condition(attributes):
    assert decide([_rule({"CallingAETitle": {"matches": ""}})], attributes).rule == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            Decision(
                action=RuleAction.PROCESS,
                rule="CT",
                reason="processed by rule 'CT': It is a CT series. (Modality is 'CT')",
            ),
        ),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            Decision(
                action=RuleAction.SKIP,
                rule="localizer",
                reason="skipped by rule 'localizer': It is a localizer (scout), not an axial scan. "
                "(ImageType contains 'LOCALIZER')",
            ),
        ),
        (
            {"Modality": "MR"},
            Decision(
                action=RuleAction.SKIP,
                rule="not a CT",
                reason="skipped by rule 'not a CT': The modality is not CT. "
                "(Modality matches '^(?!CT$)')",
            ),
        ),
        (
            {"Modality": ""},
            Decision(action=RuleAction.SKIP, rule="", reason="no rule matched"),
        ),
    ],
)
def test_default_rules_in_words(attributes, changes, expected):
    for keyword, value in changes.items():
        setattr(attributes, keyword, value)
    check_rules(default_rules())
    assert decide(default_rules(), attributes) == expected


def test_first_match_decides_and_reason_may_be_empty(attributes):
    rules = [
        _rule({"Modality": "MR"}, "one"),
        _rule({"Rows": {"min": 500}, "Modality": "CT"}, "two", RuleAction.SKIP),
        _rule({}, "three"),
    ]
    decision = decide(rules, attributes)
    assert decision.action is RuleAction.SKIP
    assert decision.reason == "skipped by rule 'two' (Rows is at least 500, Modality is 'CT')"
    assert [(t.rule, t.matched, t.why) for t in explain(rules, attributes)] == [
        ("one", False, "Modality is 'MR' does not hold, found 'CT'"),
        ("two", True, "Rows is at least 500, Modality is 'CT'"),
        ("three", True, "always"),
    ]


def test_each_condition_of_each_rule_is_tried(attributes):
    rule = _rule({"Modality": "MR", "Rows": {"min": 500, "max": 600}, "KVP": {"present": False}})
    [trial] = explain([rule], attributes)
    assert [(one.keyword, one.wording, one.held, one.found) for one in trial.conditions] == [
        ("Modality", "is 'MR'", False, "CT"),
        ("Rows", "is at least 500", True, "512"),
        ("Rows", "is at most 600", True, "512"),
        ("KVP", "is absent", True, ""),
    ]
    assert describe_conditions(rule) == [
        "Modality is 'MR'",
        "Rows is at least 500",
        "Rows is at most 600",
        "KVP is absent",
    ]


@pytest.mark.parametrize(
    ("when", "named"),
    [
        ({}, False),
        ({"Modality": "CT"}, False),
        ({"CallingAETitle": "CT1", "Modality": "CT"}, True),
        ({"CallingAETitle": {"matches": "^CT"}}, True),
        ({"CallingAETitle": "CT2"}, False),
    ],
)
def test_rules_name_senders(when, named):
    assert names_sender(_rule(when), "CT1") == named


def test_reason_quotes_no_values_of_the_data_set(attributes):
    rule = _rule({"PatientName": {"present": True}, "SeriesDescription": {"matches": "Abd"}})
    reason = decide([rule], attributes).reason
    assert "Doe" not in reason
    assert "B30f" not in reason


def test_malformed_values_are_compared_as_they_are_and_quietly(ct, tmp_path):
    dataset = ct.slices()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.SeriesDescription = "x" * 80
        dataset.Modality = "not a code string"
        (path,) = ct.write([dataset], tmp_path)
    raw = path.read_bytes().replace(b"HU", b"\xff\xff")
    path.write_bytes(raw)
    attributes = read_attributes(path)
    rule = _rule({"SeriesDescription": "x" * 80, "Modality": {"matches": "code"}})
    assert decide([rule], attributes).rule == "r"


def test_number_that_is_none_is_within_no_limits(ct, tmp_path):
    (path,) = ct.write(ct.slices()[:1], tmp_path)
    path.write_bytes(path.read_bytes().replace(b"-1024.0 ", b"lots    "))
    attributes = read_attributes(path)
    assert decide([_rule({"RescaleIntercept": {"min": -5000}})], attributes).rule == ""
    assert decide([_rule({"RescaleIntercept": "lots"})], attributes).rule == "r"


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"Modalty": "CT"}, "rule 'r': 'Modalty' is not a DICOM keyword; did you mean 'Modality'"),
        ({"CallingAETitel": "X"}, "did you mean 'CallingAETitle'?"),
        ({"Series Description": "X"}, "did you mean 'SeriesDescription'?"),
        ({"Modality": {"matches": "(CT"}}, "Modality matches '(CT', not a regular expression"),
        ({"ContrastBolusAgent": True}, "ContrastBolusAgent = { present = true }"),
        ({"PixelData": "x"}, "PixelData has no text to compare; only 'present' works on it"),
        ({"OtherPatientIDsSequence": {"contains": "x"}}, "only 'present' works"),
    ],
)
def test_rule_that_can_never_work_is_refused(when, message):
    with pytest.raises(ValueError, match="rule 'r': ") as refusal:
        check_rules([_rule({}, "fine"), _rule(when)])
    assert message in str(refusal.value)


def test_two_rules_of_one_name_are_refused():
    with pytest.raises(ValueError, match="rule 'r': there is more than one rule of this name"):
        check_rules([_rule({}), _rule({"Modality": "CT"})])


def test_presence_of_a_sequence_is_a_fair_question(attributes):
    rule = _rule({"OtherPatientIDsSequence": Condition(present=False)})
    check_rules([rule])
    assert decide([rule], attributes).rule == "r"


SOFT = {"name": "soft", "action": "process", "when": {"ConvolutionKernel": "B30f"}}
THICK = {"name": "thick", "action": "skip", "when": {"SliceThickness": {"min": 5.1}}}
MANY = {"name": "many", "action": "process", "when": {"InstanceCount": {"min": 30}}}
MR = {"name": "MR", "action": "process", "when": {"Modality": "MR", "SliceThickness": 1}}
CT = {"name": "CT", "action": "process", "when": {"Modality": "CT"}}
NO_CT = {"name": "no CT", "action": "skip", "when": {"Modality": "CT"}}


@pytest.mark.parametrize(
    ("rules", "count", "wanted"),
    [
        ([CT], None, True),
        ([SOFT], None, True),
        ([THICK, CT], None, True),
        ([NO_CT, SOFT], None, False),
        ([SOFT, NO_CT], None, True),
        ([MR], None, False),
        ([MANY], None, True),
        ([MANY], 12, False),
        ([MANY], 30, True),
        ([], None, False),
    ],
)
def test_what_an_archive_does_not_tell_is_open(rules, count: int | None, wanted: bool):
    told = Dataset()
    told.Modality = "CT"
    told.SliceThickness = None
    settings = [RuleSettings.model_validate(rule) for rule in rules]
    assert may_process(settings, told, instance_count=count) is wanted


def test_a_value_that_is_none_of_its_vr_counts_as_absent(attributes):
    """10 bytes are no doubles; pydicom raises an error of its own kind."""
    tag = Tag("ImageType")
    attributes[tag] = RawDataElement(
        tag, "FD", 28, b"ORIGINAL\\PRIMARY\\VOLUME\\NONE", 0, False, True
    )
    decision = decide([_rule({"ImageType": {"present": True}})], attributes)
    assert decision.action is RuleAction.SKIP
