"""A page as a browser takes it, by Python's own parser: elements, attributes, text, and what fetches or runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

#: Elements without an end.
_VOID = frozenset({"meta", "link", "img", "br", "input", "hr"})
#: Attributes by which a page asks for something else.
_FETCHING = ("src", "href", "action", "data", "poster", "srcset", "formaction")


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page:
    elements: list[Element] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def all(self, name: str, **attributes: str) -> list[Element]:
        return [e for e in self.elements if e.name == name and attributes.items() <= e.attributes.items()]

    def fetched(self) -> list[str]:
        """All that an element refers to, but for what is in the page itself."""
        named = [e.attributes.get(a, "") for e in self.elements for a in _FETCHING]
        return [url for url in named if url and not url.startswith(("data:", "#"))]

    def run(self) -> list[str]:
        """Names of elements and attributes with code in them, other than the page's one script."""
        handlers = [f"{e.name}.{a}" for e in self.elements for a in e.attributes if a.startswith("on") or a == "style"]
        return handlers + [e.name for e in self.elements if e.name in ("iframe", "object", "embed", "base", "form")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page, self._open = Page(), []  # type: ignore[var-annotated]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(self.page.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open[-1].name != tag:
            self.page.unclosed.append(self._open.pop().name)
        if self._open:
            self._open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


def read(html: str) -> Page:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.page
