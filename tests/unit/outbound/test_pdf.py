"""A note as PDF: the same text as its page, the same bytes each time, and no letter lost."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pypdf
import pytest

from service.outbound.careplan import render
from service.outbound.document import note
from service.outbound.pdf import PDF, lines, pdf_of
from tests import courses

if TYPE_CHECKING:
    from service.domain.mappings import Mappings


def page(*parts: str) -> str:
    """Return an HTML page with this in its body."""
    return f"<!DOCTYPE html><html><head><title>Head</title></head><body>{''.join(parts)}</body></html>"


def text_of(content: bytes) -> str:
    """Return the text of a PDF, its spaces and line breaks as one space each."""
    pages = pypdf.PdfReader(io.BytesIO(content)).pages
    return re.sub(r"\s+", " ", " ".join(each.extract_text() for each in pages)).strip()


def data(resource: dict[str, Any]) -> bytes:
    """Return what a note's attachment holds."""
    return base64.b64decode(resource["content"][0]["attachment"]["data"])


def test_a_note_as_pdf_says_what_its_page_says(mappings: Mappings) -> None:
    """All of it, in its order."""
    plan = render(courses.course(), mappings)
    made = note(plan, PDF)
    attachment = made["content"][0]["attachment"]
    said = " ".join(each.text for each in lines(data(note(plan)).decode()))
    assert re.sub(r"\s+", " ", said) == text_of(data(made))
    assert ("application/pdf", len(data(made))) == (attachment["contentType"], attachment["size"])
    assert "Goals" in said


def test_the_same_plan_gives_the_same_pdf(mappings: Mappings) -> None:
    """In another process, too, and whatever was made before."""
    plan = render(courses.course(), mappings)
    assert note(plan, PDF) == note(plan, PDF)
    made = "import sys; from service.outbound.pdf import pdf_of; sys.stdout.buffer.write(pdf_of('<p>Łódź</p>', 'T'))"
    written = {subprocess.run([sys.executable, "-c", made], capture_output=True, check=True).stdout for _ in range(2)}
    assert 1 == len(written)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Žofie Łódź Ŵ ğ ß", "Žofie Łódź Ŵ ğ ß"),
        ("Ελένη Привіт", "Ελένη Привіт"),
        ("a &lt;b&gt; &amp; c", "a <b> & c"),
        ("17 → 9, ≥ 5, 2×, 3–4, e\u0301", "17 → 9, ≥ 5, 2×, 3–4, é"),
    ],
)
def test_letters_of_european_languages_are_shown(said: str, shown: str) -> None:
    """As they are, and as text."""
    assert shown == text_of(pdf_of(page(f"<p>{said}</p>"), "T"))


@pytest.mark.parametrize("letter", ["中", "😀", "\u05d0", "\u0e01", "\ue000"])
def test_a_letter_that_the_font_has_not_stands_as_its_number(letter: str) -> None:
    """Never lost in silence: a sentence at the end says what it is."""
    said = text_of(pdf_of(page(f"<p>x{letter}y</p>"), letter))
    assert f"x[U+{ord(letter):04X}]y Letters that this page can't show stand as their Unicode numbers" in said


def test_blocks_are_lines_of_their_own() -> None:
    """Words of two cells, items or paragraphs never run together; what is in the head is no line."""
    found = lines(page("<h1>A</h1><div><p>b<b>c</b></p><ul><li>d</li><li>e</li></ul></div><p>f</p>"))
    assert [("A", "h1"), ("bc", None), ("• d", None), ("• e", None), ("f", None)] == [tuple(each) for each in found]


def test_a_page_that_is_long_is_several_pages() -> None:
    """All of them are shown."""
    said = text_of(pdf_of(page(*(f"<p>word{number}</p>" for number in range(200))), "T"))
    assert all(f"word{number}" in said for number in range(200))


def test_no_library_for_pdf_is_loaded_where_notes_are_html() -> None:
    """They are megabytes."""
    loaded = "import sys; import service.outbound.document; print('reportlab' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True, text=True)
    assert "False" == ran.stdout.strip()
