"""Every link of a built site leads somewhere."""

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The places that a page has, and those that it points to."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.ids.append(value or "")
            elif name in ("href", "src") and value is not None:
                self.links.append(value)


def complaints(site: Path) -> list[str]:
    """What is wrong with the links of all pages below a folder; none if all is well.

    A relative link must lead to a file inside the folder, its fragment to an id in there, and one
    to elsewhere must be a whole ``http(s)`` address, which is not visited. An id is there once.
    """
    root = site.resolve()
    pages = {path: _Page(path.read_text()) for path in sorted(root.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(root)
        twice = [name for name, count in Counter(page.ids).items() if count > 1]
        found += [f"{where}: two places are called {name!r}" for name in twice]
        for link in dict.fromkeys(page.links):
            reason = _wrong(link, path, root, pages)
            if reason:
                found.append(f"{where}: {link!r} {reason}")
    return found


def _wrong(link: str, path: Path, root: Path, pages: dict[Path, _Page]) -> str | None:
    parts = urlsplit(link)
    if parts.scheme == "data":
        return None
    if parts.scheme or parts.netloc:
        whole = parts.scheme in ("http", "https") and "." in parts.netloc and " " not in link
        return None if whole else "is no address"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(root) or parts.path.startswith("/"):
        return "leads out of the site"
    if not target.is_file():
        return "leads to no file"
    if parts.fragment and (target not in pages or unquote(parts.fragment) not in pages[target].ids):
        return "leads to no place in that file"
    return None
