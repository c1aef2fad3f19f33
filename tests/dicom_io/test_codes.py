import pytest
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code

from dicom_io import codes

TABLE = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}
IN_NO_DICTIONARY = {
    "QUALITATIVE_EVALUATIONS",
    "MILLILITER",
    "LESION_COUNT",
    "PIXELS",
    "DIRECTION_COSINE",
    "NUMBER_OF_LESIONS",
}
"""Written out: a UMLS term of TID 1500, UCUM expressions, a meaning without SNOMED's suffix."""


@pytest.mark.parametrize("name", TABLE)
def test_code_fits_its_attributes(name):
    code = TABLE[name]
    assert 0 < len(code.value) <= 16, "longer ones need Long Code Value"
    assert 0 < len(code.meaning) <= 64
    assert code.scheme_designator in {"SCT", "DCM", "UCUM", "UMLS", "LN", codes.PRIVATE_SCHEME}


@pytest.mark.parametrize("name", sorted(TABLE.keys() - IN_NO_DICTIONARY))
def test_code_is_known_or_declared_as_ours(name):
    code = TABLE[name]
    if code.scheme_designator == codes.PRIVATE_SCHEME:
        assert code.scheme_designator.startswith("99")
        return
    scheme = getattr(dictionary, code.scheme_designator)
    known = {getattr(scheme, keyword).value for keyword in scheme.dir()}
    assert code.value in known


@pytest.mark.parametrize(
    ("name", "value", "scheme"),
    [
        ("LIVER", "10200004", "SCT"),
        ("NEOPLASM", "108369006", "SCT"),
        ("LESION", "52988006", "SCT"),
        ("MORPHOLOGICALLY_ABNORMAL_STRUCTURE", "49755003", "SCT"),
        ("ARTIFICIAL_INTELLIGENCE", "123110", "DCM"),
        ("IMAGING_MEASUREMENT_REPORT", "126000", "DCM"),
        ("VOLUME", "118565006", "SCT"),
        ("LONG_AXIS", "103339001", "SCT"),
        ("SHORT_AXIS", "103340004", "SCT"),
        ("ATTENUATION_COEFFICIENT", "112031", "DCM"),
        ("HOUNSFIELD_UNIT", "[hnsf'U]", "UCUM"),
    ],
)
def test_codes_that_receivers_look_for(name, value, scheme):
    assert (TABLE[name].value, TABLE[name].scheme_designator) == (value, scheme)
