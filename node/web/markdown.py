"""Texts of model packages as HTML: nothing in them runs, and nothing is fetched by them."""

from collections.abc import Iterable, Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")
_ELSEWHERE = ("https://", "http://")
_LOWEST = 6


def render_markdown(text: str) -> Markup:
    """Render a text whose headings stand below those of the page.

    Files of the package are not served: of pictures the description is left, of links between files
    their text.
    """
    tokens = _PARSER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(_LOWEST, int(token.tag[1]) + 1)}"
        if token.type == "table_open":
            # Wide ones are scrolled, by keys too.
            token.attrSet("tabindex", "0")
        if token.children:
            token.children = list(_only_text(token.children))
    # The parser escapes all HTML, and knows no links that run scripts.
    return Markup(_PARSER.renderer.render(tokens, _PARSER.options, {}))  # noqa: S704


def _only_text(tokens: Iterable[Token]) -> Iterator[Token]:
    is_link = False
    for token in tokens:
        if token.type == "link_open":
            is_link = str(token.attrGet("href")).startswith(_ELSEWHERE)
        if token.type == "image":
            yield Token("text", "", 0, content=f"({token.content})")
        elif is_link or token.type not in ("link_open", "link_close"):
            yield token
