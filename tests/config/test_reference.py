from pathlib import Path

from config.reference import settings_reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_the_page_is_what_the_code_says():
    """`python -m config.reference > docs/reference/settings.md` writes it."""
    assert PAGE.read_text(encoding="utf-8") == settings_reference()
