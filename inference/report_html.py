"""The page as one HTML file that needs nothing else: no script, no other file, no network."""

from base64 import b64encode
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from inference import report_page
from inference.report_page import Figure, ReportPage


def render_html(page: ReportPage) -> str:
    """Render the page, all of its lesions listed.

    Raises
    ------
    OSError
        A picture cannot be read.
    """
    return _template().render(
        page=page,
        title=report_page.TITLE,
        badge=report_page.BADGE,
        language=report_page.LANGUAGE,
        pictures=[(figure, _data_uri(figure)) for figure in page.figures],
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _data_uri(figure: Figure) -> str:
    return f"data:image/png;base64,{b64encode(figure.path.read_bytes()).decode('ascii')}"
