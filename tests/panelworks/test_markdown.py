import pytest
from markdown_it import MarkdownIt

from panelworks.markdown import MAX_CHARACTERS, code_span, escape_markdown

HOSTILE = [
    "page.png",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    "<img src=x onerror=alert(1)>",
    "https://evil.example/login",
    "a | b | c",
    "`code` and ``more``",
    "# heading",
    "- item",
    "1. item",
    "***bold*** _under_ ~~gone~~",
    "&lt;b&gt; &amp;",
    r"back\slash \`",
    "{{ flow_run.state }}",
    "日本語 – “quoted”",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("wrap", [escape_markdown, code_span])
def test_markdown_shows_the_text_and_nothing_else(text: str, wrap: object) -> None:
    assert callable(wrap)
    tokens = MarkdownIt("commonmark").parse(f"- note: {wrap(text)}")
    (inline,) = [token for token in tokens if token.type == "inline"]
    assert inline.children is not None
    assert {token.type for token in inline.children} <= {"text", "text_special", "code_inline"}
    assert "".join(token.content for token in inline.children) == f"note: {text}"


@pytest.mark.parametrize("wrap", [escape_markdown, code_span])
def test_line_breaks_and_surrogates_do_not_leave_the_line(wrap: object) -> None:
    assert callable(wrap)
    text = wrap("one\n\n# two\r\nthree\x00\x1b[31m\u2028four \udce9")
    assert len(text.splitlines()) == 1
    text.encode()


def test_a_table_row_keeps_its_cells() -> None:
    table = f"| name | score |\n|---|---|\n| {escape_markdown('a | b')} | 1 |"
    cells = [t for t in MarkdownIt("commonmark").enable("table").parse(table) if t.type == "td_open"]
    assert len(cells) == 2


def test_a_long_text_is_cut() -> None:
    assert len(escape_markdown("x" * 10_000)) == MAX_CHARACTERS + 1
