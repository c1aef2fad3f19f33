"""Tables that a benchmark keeps up to date in a page."""

from pathlib import Path


def put_table(page: Path, command: str, table: str) -> None:
    """Replace what stands in a page between the comment that names the command and the next."""
    begin, end = f"<!-- table: {command} -->", "<!-- end of the table -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end, 1)
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
