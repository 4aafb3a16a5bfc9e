"""report: what the other stages wrote -> reports/report.html, one file that needs nothing else;
report.md, table.txt, figures.
"""

from pathlib import Path

from pipeline.core.command import run_stage
from pipeline.core.config import PARAMS, read_exports
from pipeline.core.files import write_bytes
from pipeline.core.progress import say
from pipeline.report.content import read_content
from pipeline.report.figures import charts
from pipeline.report.page import render_page
from pipeline.report.summary import markdown, terminal


def main(params: Path = PARAMS, reports: Path = Path("reports"), explained: Path = Path("data/explain")) -> None:
    content = read_content(reports, explained, read_exports(params))
    drawn = list(charts(content))
    for chart in drawn:
        chart.save(reports / "figures")
    write_bytes(reports / "table.txt", terminal(content).encode())
    write_bytes(reports / "report.md", markdown(content, drawn).encode())
    page = reports / "report.html"
    write_bytes(page, render_page(content, drawn).encode())
    say(f"report: {page.resolve()}")


if __name__ == "__main__":
    run_stage(main)
