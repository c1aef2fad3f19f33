"""The type of the PDF page: fonts that can be embedded, and what to do where they have no glyph."""

from functools import cache
from io import BytesIO
from unicodedata import normalize

from pymupdf_fonts import fontbuffers
from reportlab import rl_config
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR, BOLD = "Hepar", "Hepar-Bold"
_FONTS = {REGULAR: "notos", BOLD: "notosbo"}
"""Noto Sans: Latin, Greek and Cyrillic with all their accents."""
NO_GLYPH = "?"


@cache
def load_type() -> frozenset[int]:
    """Make the fonts known to ReportLab, and give the characters that both of them have."""
    fonts = [TTFont(name, BytesIO(fontbuffers[key]())) for name, key in _FONTS.items()]
    for font in fonts:
        pdfmetrics.registerFont(font)
    rl_config.useA85 = 0  # bytes instead of ASCII: pictures are a fifth smaller
    pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=BOLD)
    return frozenset.intersection(*(frozenset(font.face.charToGlyph) for font in fonts))


def set_text(text: str) -> str:
    """Replace what the fonts have no glyph for: it would be an empty box, or nothing."""
    known = load_type()
    signs = normalize("NFC", text)
    return "".join(sign if ord(sign) in known else NO_GLYPH for sign in signs)


def is_whole(text: str) -> bool:
    """Whether the fonts have glyphs for all of it."""
    return set_text(text) == normalize("NFC", text)
