"""A note's page as PDF, for an EHR that takes no HTML. The same page gives the same bytes.

Letters other than Latin, Greek, Cyrillic and Georgian ones stand as their Unicode numbers, with a sentence that says
so: none gets lost in silence, and none is shown in a shape or an order in which nobody could read it.
"""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize

from service.outbound.elements import AUTHOR

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

PDF = "application/pdf"
_HEADINGS = {"h1": 16.0, "h2": 13.0, "h3": 11.5}
"""Sizes of headings (points)."""
_SIZE = 10.0
"""Size of all else (points)."""
_LINE = 1.4
"""Height of a line, of its letters' size."""
_BLOCKS = frozenset({"p", "div", "li", "tr", "ul", "ol", "table", "body", "br", "title", *_HEADINGS})
_CELLS = frozenset({"td", "th"})
_SHAPED = (range(0x0590, 0x0E80), range(0xFB1D, 0xFE00), range(0xFE70, 0xFF00))
"""Letters that run to the left or change with their neighbours (Hebrew to Thai): a font alone can't set them."""
_TOLD = "Letters that this page can't show stand as their Unicode numbers, as [U+4E2D]."


class Line(NamedTuple):
    """One paragraph, list item or row of a page."""

    text: str
    heading: str | None = None
    """`h1` to `h3`; None for what is no heading."""


def pdf_of(page: str, title: str) -> bytes:
    """Return the text of an HTML page as PDF: headings, paragraphs, lists, and tables a row each."""
    # Loaded where it is used: most EHRs take HTML, and these are megabytes.
    from pymupdf_fonts import fontbuffers  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no types; as above
    from reportlab.lib.styles import ParagraphStyle  # noqa: PLC0415 - as above
    from reportlab.pdfbase.pdfmetrics import registerFont  # noqa: PLC0415 - as above
    from reportlab.pdfbase.ttfonts import TTFont  # noqa: PLC0415 - as above
    from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate  # noqa: PLC0415 - as above

    fonts = [TTFont(name, BytesIO(fontbuffers[file]())) for name, file in (("Note", "figo"), ("NoteBold", "figbo"))]
    for font in fonts:
        registerFont(font)
    known = fonts[0].face.charToGlyph.keys() & fonts[1].face.charToGlyph.keys()
    found = lines(page)
    shown = [each._replace(text=shown_text(each.text, known)) for each in found]
    if shown != found:
        shown.append(Line(_TOLD))
    parts: list[Flowable] = []
    for each in shown:
        size = _SIZE if each.heading is None else _HEADINGS[each.heading]
        font_name = "Note" if each.heading is None else "NoteBold"
        style = ParagraphStyle(
            "line", fontName=font_name, fontSize=size, leading=size * _LINE, spaceAfter=size * (_LINE - 1)
        )
        parts.append(Paragraph(escape(each.text), style))
    made = BytesIO()
    # Without times and ids of its own; the same text is the same bytes.
    SimpleDocTemplate(made, invariant=1, title=title, author=AUTHOR, lang="en").build(parts)
    return made.getvalue()


def shown_text(text: str, known: AbstractSet[int]) -> str:
    """Return a text with numbers in place of those letters whose code points are not `known`, or can't be set."""

    def is_shown(code: int) -> bool:
        return code in known and not any(code in each for each in _SHAPED)

    return "".join(each if is_shown(ord(each)) else f"[U+{ord(each):04X}]" for each in text)


def lines(page: str) -> list[Line]:
    """Return the text of an HTML page, a line for each block; what is in its head is left out."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.end_line()
    return reader.lines


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[Line] = []
        self._words: list[str] = []
        self._heading: str | None = None
        self._in_head = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser passes it
        if tag == "head":
            self._in_head = True
        elif tag in _CELLS and self._words:
            self._words.append(" ")
        elif tag in _BLOCKS:
            self.end_line()
            if tag == "li":
                self._words.append("• ")
            self._heading = tag if tag in _HEADINGS else None

    def handle_endtag(self, tag: str) -> None:
        if tag == "head":
            self._in_head = False
            self._words.clear()
        elif tag in _BLOCKS:
            self.end_line()

    def handle_data(self, data: str) -> None:
        if not self._in_head:
            self._words.append(data)

    def end_line(self) -> None:
        text = normalize("NFC", " ".join("".join(self._words).split()))
        if text:
            self.lines.append(Line(text, self._heading))
        self._words.clear()
        self._heading = None
