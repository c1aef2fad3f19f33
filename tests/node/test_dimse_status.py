import pytest
from pynetdicom.status import STATUS_FAILURE, STATUS_SUCCESS, STORAGE_SERVICE_CLASS_STATUS

from node.dimse_status import DimseStatus, status_response


@pytest.mark.parametrize("status", DimseStatus)
def test_each_code_is_one_of_the_storage_service(status: DimseStatus):
    category, _ = STORAGE_SERVICE_CLASS_STATUS[status]
    assert category == (STATUS_SUCCESS if status is DimseStatus.SUCCESS else STATUS_FAILURE)


def test_comments_fit_the_element():
    response = status_response(DimseStatus.CANNOT_STORE, "größer \\ " + 100 * "x")
    assert response.Status == 0xC001
    assert len(response.ErrorComment) == 64
    assert response.ErrorComment.isascii()
    assert "\\" not in response.ErrorComment
    assert "ErrorComment" not in status_response(DimseStatus.SUCCESS)
