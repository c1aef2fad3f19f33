"""The one-page report, as HTML and as PDF, read again by readers that are not ours."""

import pickle
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

from inference.findings import Doubt, DoubtCode
from inference.labels import Label
from inference.manifest import ModelIdentity
from inference.measure import measure
from inference.report_html import render_html
from inference.report_page import Figure, PageOrigin, PageSource, make_page, make_refusal_page
from inference.report_pdf import render_pdf
from inference.volume import Volume
from inference.wording import summary_sentence

ORIGIN = PageOrigin(
    model=ModelIdentity(
        name="test-model", version="1.2.0", digest="ab" * 32, license="For tests only."
    ),
    software_version="0.1.0",
    created_at=datetime(2026, 11, 20, 12, 30, 15, tzinfo=UTC),
)
SOURCE = PageSource(
    patient_name="Nowak-Ångström, Zoë",
    patient_id="4711",
    birth_date="1957-03-12",
    sex="female",
    study_date="2026-11-19",
    study_description="CT abdomen",
    accession_number="A-42",
    series_description="Portal venous",
)
AXIAL = np.array([[0, 0, 0.8, -90], [0, 0.9, 0, -70], [2.5, 0, 0, -600], [0, 0, 0, 1.0]])
CORONAL = np.array([[0, 0, 0.8, -90], [2.5, 0, 0, -70], [0, -0.9, 0, 60], [0, 0, 0, 1.0]])
LONG = "A sentence that goes on and on, because nobody told it where to stop. " * 40


def measured(count, affine=AXIAL):
    """Give a grid and the findings of so many lesions, each smaller than the one before."""
    labels = np.zeros((20, 60, 96), np.uint8)
    labels[1:19, 2:58, 2:94] = Label.LIVER
    for number in range(count):
        row, column = 6 + 9 * (number // 10), 4 + 9 * (number % 10)
        height = 16 - number // 2
        labels[2 : 2 + height, row : row + 4, column : column + 7 - number % 2] = Label.TUMOR
    hu = np.random.default_rng(1).normal(90, 15, labels.shape).astype(np.int16)
    volume = Volume(array=hu, affine=affine, coordinate_system="PATIENT")
    return volume, measure(volume, volume.with_array(labels))


@pytest.fixture
def figure(tmp_path):
    Image.new("RGB", (720, 358), (13, 15, 20)).save(tmp_path / "preview.png")
    return Figure(path=tmp_path / "preview.png", caption="Three planes", description="CT <in> grey")


def page_of(count, *, figures=(), source=SOURCE, doubts=(), affine=AXIAL):
    volume, findings = measured(count, affine)
    return make_page(replace(findings, doubts=doubts), volume, source, ORIGIN, figures)


def pdf_text(content):
    """Give the text of the only page, its white space evened."""
    [page] = PdfReader(BytesIO(content)).pages
    return " ".join(page.extract_text().split())


class _Cells(HTMLParser):
    """Collects what stands in which element."""

    def __init__(self):
        super().__init__()
        self.texts, self.tags, self._open = {}, [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open:
            self.texts[self._open[-1]][-1] += data


def parsed(html):
    parser = _Cells()
    parser.feed(html)
    parser.close()
    return parser


def cells_of(findings, affine=AXIAL):
    """Give what the table must say, calculated anew."""
    for lesion in findings.lesions:
        axis = lesion.long_axis
        yield [
            str(lesion.number),
            f"{axis.length_mm:.1f} \N{MULTIPLICATION SIGN} {lesion.short_axis.length_mm:.1f}",
            f"{lesion.volume_ml:.2f}",
            f"{lesion.mean_hu:.0f} ± {lesion.sd_hu:.0f}",
            f"{lesion.min_hu:.0f} / {lesion.max_hu:.0f}",
            str(axis.slice_index + 1),
            f"{-600 + 2.5 * axis.slice_index:.1f}",
            f"{lesion.surface_distance_mm:.1f}",
            "yes" if axis.length_mm >= 10 else "no",
        ]


@pytest.mark.parametrize("count", [0, 1, 5, 30])
def test_the_pdf_says_what_was_measured(count, figure):
    page = page_of(count, figures=(figure,))
    _, findings = measured(count)
    content = render_pdf(page)
    figure.path.with_name("report.pdf").write_bytes(content)  # to be looked at, with --basetemp
    text = pdf_text(content)
    assert summary_sentence(findings) in text
    for value in ("Nowak-Ångström, Zoë", "4711", "1957-03-12", "female", "2026-11-19", "A-42"):
        assert value in text
    listed = [cells for cells in cells_of(findings) if " ".join(cells) in text]
    assert listed == list(cells_of(findings))[: len(listed)]
    assert len(listed) >= min(count, 5)
    rest = findings.lesions[len(listed) :]
    if rest:
        volume_ml = sum(lesion.volume_ml for lesion in rest)
        assert f"and {len(rest)} smaller ones, {volume_ml:.2f} ml together" in text
    else:
        assert "smaller" not in text
    for words in (
        "AI result, not reviewed",
        "not reviewed by a physician",
        "not a medical device",
        "test-model 1.2.0",
        "hepar 0.1.0",
        "For tests only.",
        "2026-11-20 12:30 UTC",
        f"{100 * findings.tumor_burden:.2f} %",
    ):
        assert words in text
    assert ("RECIST 1.1 calls" in text) == (count > 0)


def test_the_html_has_the_numbers_in_its_cells(figure):
    html = render_html(page_of(30, figures=(figure,)))
    figure.path.with_name("report.html").write_text(html, encoding="utf-8")
    found = parsed(html)
    _, findings = measured(30)
    rows = list(cells_of(findings))
    headers = found.texts["th"]
    assert headers[9:] == [cells[0] for cells in rows]
    assert found.texts["td"] == [cell for cells in rows for cell in cells[1:]]
    scopes = [attributes.get("scope") for tag, attributes in found.tags if tag == "th"]
    assert scopes == ["col"] * 9 + ["row"] * 30
    assert summary_sentence(findings) in found.texts["p"]
    assert f"{100 * findings.tumor_burden:.2f} %" in found.texts["dd"]
    [image] = [attributes for tag, attributes in found.tags if tag == "img"]
    assert image["alt"] == "CT <in> grey"
    assert image["src"].startswith("data:image/png;base64,")
    [root] = [attributes for tag, attributes in found.tags if tag == "html"]
    assert root["lang"] == "en"
    assert not [tag for tag, _ in found.tags if tag in ("script", "link", "iframe")]


def test_what_is_doubtful_stands_before_the_numbers():
    doubts = tuple(Doubt(code=code, sentence=f"Doubt {code.value}.") for code in DoubtCode)
    source = replace(SOURCE, remark="9 of the 12 instances have come.")
    page = page_of(2, source=source, doubts=doubts)
    for text in (pdf_text(render_pdf(page)), render_html(page)):
        places = [text.index(f"Doubt {code.value}.") for code in DoubtCode]
        assert max(places) < text.index("Liver with lesions")
        assert "9 of the 12 instances have come." in text
    html = parsed(render_html(page))
    assert html.texts["strong"] == ["Incomplete series:", *["Doubtful:"] * len(DoubtCode)]


def test_the_page_of_a_rejected_series_says_why_and_has_no_numbers():
    page = make_refusal_page("Slices are missing.", "2 missing\nat 14", SOURCE, ORIGIN)
    for text in (pdf_text(render_pdf(page)), render_html(page)):
        assert "Not evaluable: Slices are missing." in text
        assert "2 missing at 14" in text
        assert "Nowak-Ångström, Zoë" in text
        assert "not a medical device" in text
        assert "Tumor" not in text
        assert "RECIST" not in text


@pytest.mark.parametrize("count", [0, 1, 5, 30])
@pytest.mark.parametrize("figures", [0, 1, 3])
def test_it_is_one_page_whatever_there_is_to_say(count, figures, figure):
    fields = ("patient_name", "patient_id", "sex", "study_description", "series_description")
    source = replace(SOURCE, remark=LONG, **dict.fromkeys(fields, "W" * 300))
    doubts = tuple(Doubt(code=code, sentence=LONG) for code in DoubtCode)
    page = page_of(count, source=source, doubts=doubts, figures=(figure,) * figures)
    wordy = replace(page, detail=LONG, origin=(("License", LONG),))
    for shown in (page, wordy):
        text = pdf_text(render_pdf(shown))
        assert "not a medical device" in text
        assert text.count("Doubtful: A sentence that goes on") == len(DoubtCode)
        assert "\N{HORIZONTAL ELLIPSIS}" in text


def test_the_table_gives_way_before_the_figure(figure):
    content = render_pdf(page_of(30, figures=(figure,)))
    [image] = PdfReader(BytesIO(content)).pages[0].images
    assert image.image.size == (720, 358)
    assert re.search(r"and \d+ smaller ones", pdf_text(content))
    assert "smaller" not in pdf_text(render_pdf(page_of(30)))


def test_the_same_page_has_the_same_bytes(figure, tmp_path):
    page = page_of(5, figures=(figure,))
    moved = tmp_path / "elsewhere.png"
    moved.write_bytes(figure.path.read_bytes())
    again = replace(page, figures=(replace(figure, path=moved),))
    assert render_pdf(page) == render_pdf(again)
    assert render_html(page) == render_html(again)
    later = replace(page, created_at=page.created_at + timedelta(seconds=1))
    assert render_pdf(later) != render_pdf(page)


def test_the_pdf_says_what_it_is_and_has_its_fonts_inside():
    zone = timezone(timedelta(hours=-3, minutes=-30))
    page = replace(page_of(1), created_at=ORIGIN.created_at.astimezone(zone))
    reader = PdfReader(BytesIO(render_pdf(page)))
    assert reader.metadata.title == "Liver and liver lesions on CT: AI result, not reviewed"
    assert reader.metadata.author == "Hepar"
    assert reader.metadata.creation_date == ORIGIN.created_at
    assert reader.root_object["/Lang"] == "en"
    assert reader.pages[0].mediabox.width == pytest.approx(595.3, abs=0.1)
    fonts = [font.get_object() for font in reader.pages[0]["/Resources"]["/Font"].values()]
    assert all("/FontFile2" in font["/FontDescriptor"] for font in fonts)
    assert {font["/BaseFont"].split("+")[1] for font in fonts} == {
        "NotoSans-Regular",
        "NotoSans-Bold",
    }


def test_names_have_their_letters():
    name = "Łukaszewicz Ştefănescu Nguyễn Παπαδόπουλος Щербакова"
    text = pdf_text(render_pdf(page_of(0, source=replace(SOURCE, patient_name=name))))
    assert name in text
    assert "no type for" not in text


def test_a_letter_without_a_glyph_is_no_empty_box():
    page = page_of(0, source=replace(SOURCE, patient_name="\u5c71\u7530, \u592a\u90ce"))
    text = pdf_text(render_pdf(page))
    assert "Patient ??, ??" in text
    assert "? may stand for a character that this page has no type for." in text
    assert "\u5c71\u7530, \u592a\u90ce" in render_html(page)


def test_markup_in_a_name_is_text():
    nasty = '<script>alert("1")</script> & <b>x</b>'
    page = page_of(
        0, source=replace(SOURCE, patient_name=nasty, series_description="a\x00\u202eb\r\nc")
    )
    html = render_html(page)
    assert "<script" not in html
    assert nasty in parsed(html).texts["dd"]
    text = pdf_text(render_pdf(page))
    assert nasty in text
    assert "a b c" in text
    assert "a b c" in parsed(html).texts["dd"]


def test_a_file_without_a_patient_has_no_empty_lines():
    page = page_of(1, source=PageSource())
    assert "Patient" not in pdf_text(render_pdf(page))
    assert "identity" not in [attrs.get("class") for _, attrs in parsed(render_html(page)).tags]
    some = page_of(1, source=PageSource(patient_id="7"))
    assert "not stated" in pdf_text(render_pdf(some))


def test_other_planes_have_their_own_axis_and_no_recist():
    page = page_of(1, affine=CORONAL)
    _, findings = measured(1, CORONAL)
    cells = dict(zip(page.columns, page.rows[0].cells, strict=True))
    index = findings.lesions[0].long_axis.slice_index
    assert cells["y, mm"] == f"{-70 + 2.5 * index:.1f}"
    assert cells["RECIST 1.1 measurable"] == "not applicable"
    assert "toward the back" in page.method


def test_images_have_the_numbers_that_viewers_show():
    numbers = tuple(range(40, 20, -1))
    page = page_of(1, source=replace(SOURCE, image_numbers=numbers))
    _, findings = measured(1)
    cells = dict(zip(page.columns, page.rows[0].cells, strict=True))
    assert cells["Image"] == str(numbers[findings.lesions[0].long_axis.slice_index])
    with pytest.raises(ValueError, match="3 image numbers for 20 slices"):
        page_of(1, source=replace(SOURCE, image_numbers=(1, 2, 3)))


def test_other_processes_make_the_same_bytes(figure):
    code = (
        "import sys, pickle; from inference.report_pdf import render_pdf;"
        "sys.stdout.buffer.write(render_pdf(pickle.load(sys.stdin.buffer)))"
    )
    page = page_of(3, figures=(figure,))
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(page), capture_output=True, check=True
    )
    assert done.stdout == render_pdf(page)
