"""A page as Markdown and as HTML: what a text holds stays text."""

from html.parser import HTMLParser

from codir_jax.jobs import document
from codir_jax.jobs.document import Code, Figure, Heading, Paragraph, Table

NASTY = "<script>alert('a & b')</script> | ![x](http://evil) *bold* `code`"


class _Reader(HTMLParser):
    """Tags, and the texts of cells, as a browser sees them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.links, self._open = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.cells[-1] += data


def test_the_html_page_holds_its_figures_and_runs_nothing(tmp_path):
    (tmp_path / "a.svg").write_text("<svg/>")
    blocks = [
        Heading(NASTY, 1),
        Paragraph(NASTY),
        Table(["a", NASTY], [[NASTY, "2"]]),
        Code(NASTY),
        Figure("a.svg", NASTY),
    ]
    document.write(tmp_path, "page", blocks)
    read = _Reader((tmp_path / "page.html").read_text())
    assert "script" not in read.tags and read.tags.count("img") == 1
    assert all(link.startswith("data:image/svg+xml;base64,PHN2Zy8+") for link in read.links)
    assert read.cells == ["a", NASTY, NASTY, "2"]
    assert "default-src 'none'" in (tmp_path / "page.html").read_text()


def test_in_markdown_nothing_of_a_text_is_markup():
    told = document.markdown([Table(["text"], [[NASTY], ["two\nlines"], ["a_b _c_"]]), Paragraph("1. no list")])
    assert r"&lt;script&gt;alert('a &amp; b')&lt;/script&gt; \| !\[x\](http://evil) \*bold\* \`code\`" in told
    assert "two lines" in told and r"a_b \_c\_" in told and r"1\. no list" in told
    assert len(told.splitlines()) == 2 + 3 + 2


def test_a_fence_is_longer_than_those_inside():
    told = document.markdown([Code("```\nrm\n```")])
    assert told.startswith("````\n```") and told.endswith("```\n````\n")
