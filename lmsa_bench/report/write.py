"""A suite's summary in its results folder: its table in every form, and its figures."""

import hashlib
import re
from dataclasses import asdict
from pathlib import Path

from lmsa_bench.analysis.report import Report
from lmsa_bench.atomic import write_whole
from lmsa_bench.report import figures, tables
from lmsa_bench.report.overview import overview
from lmsa_bench.results.journal import Journal
from lmsa_bench.results.overview import FILE
from lmsa_bench.trial.spec import canonical

LONGEST = 100  # name of a folder, in characters
CURRENT = "table.json"  # written last: it tells whether all is current
FORMS = {
    "table": "table.txt",
    "csv": "table.csv",
    "latex": "table.tex",
    "markdown": "table.md",
    "html": "report.html",
    "json": CURRENT,
}


def write(report: Report, journal: Journal, *, anew: bool = True) -> Path:
    """Writes tables, figures and the page, and pushes them to a storage; without ``anew`` only where out of date.

    Returns the page's path.
    """
    summary = journal.root / "summary" / report.suite
    if report.part:
        summary = summary / "parts" / folder_name(report.part)
    written = summary / CURRENT  # rows that another suite ran change it as well
    if not anew and written.exists() and written.read_bytes() == tables.render(report, "json"):
        return summary / FORMS["html"]
    summary.mkdir(parents=True, exist_ok=True)
    figures.draw(report, summary)
    write_whole(summary / FILE, canonical(asdict(overview(report))).encode())
    for form, name in FORMS.items():
        write_whole(summary / name, tables.render(report, form))
    for file in summary.iterdir():
        if file.is_file():
            journal.push_file(str(file.relative_to(journal.root)))
    return summary / FORMS["html"]


def folder_name(part: str) -> str:
    """A part of a suite as the name of a folder: shortened with a hash where it names very many rows."""
    name = re.sub(r"[^\w.+-]", "-", part.replace(" ", "+"), flags=re.ASCII)
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"
