"""Orthanc's own web viewer (Debian's ``orthanc-webviewer``), which shows images only."""

import json
from pathlib import Path

from playwright.sync_api import Page

from benchmarks.peers import Orthanc
from benchmarks.viewers.browser import open_page

WEB_VIEWER_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancWebViewer.so")
_IMAGE = "cornerstone.getEnabledElement($('#dicomImage').get(0)).image"


def picture_image(archive: Orthanc, sop_instance_uid: str, path: Path) -> None:
    """Scroll to an image of its series, and save what is seen."""
    [instance] = [
        one
        for one in json.loads(archive.get("/instances?expand"))
        if one["MainDicomTags"]["SOPInstanceUID"] == sop_instance_uid
    ]
    series = instance["ParentSeries"]
    shown = json.loads(archive.get(f"/web-viewer/series/{series}"))["Slices"]
    name = f"{instance['ID']}_0"
    with open_page(archive.root) as page:
        page.goto(f"{archive.root}/web-viewer/app/viewer.html?series={series}")
        _wait_for(page, shown[0])
        page.locator(".ui-slider-handle").focus()
        for _ in range(shown.index(name)):
            page.keyboard.press("ArrowRight")
        _wait_for(page, name)
        # It keeps the zoom of the first image until the window changes its size.
        page.set_viewport_size({"width": 1000, "height": 740})
        page.wait_for_timeout(500)
        page.screenshot(path=path)


def _wait_for(page: Page, name: str) -> None:
    page.wait_for_function(f"{_IMAGE}?.imageId === '{name}'")
