"""Links between documents lead somewhere: the file is there, and so is the heading. The archive ships docs alone."""

import re
from pathlib import Path

import pytest
from tests.project.tree import ROOT

DOCS = ROOT / "docs"
PAPERS = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(path: Path) -> set[str]:
    """Of each heading, as renderers of Markdown make them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(paper: Path) -> None:
    for link in LINK.findall(paper.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (paper.parent / name).resolve() if name else paper
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
        assert paper.parent != DOCS or target.parent == DOCS, f"{link}: not in the archive"


def test_every_document_is_linked_from_another() -> None:
    linked = {link.partition("#")[0].rpartition("/")[2] for paper in PAPERS for link in LINK.findall(paper.read_text())}
    assert {path.name for path in DOCS.glob("*.md")} - linked == set()
