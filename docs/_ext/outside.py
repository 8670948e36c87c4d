"""What GitHub shows and Sphinx does not, rewritten for the site.

Three files above `docs/` are pages, and links to files there are rewritten; on GitHub the same links lead to the files.
A `<picture>` with a light and a dark file becomes two images, of which the theme shows one.
"""

import re

from sphinx.application import Sphinx

PAGES = {"SECURITY.md": "security", "CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing"}
PICTURE = re.compile(
    r"<picture>\s*<source [^>]*srcset=\"([^\"]+)\">\s*<img alt=\"([^\"]+)\" src=\"([^\"]+)\">\s*</picture>"
)
IMAGES = """```{{image}} {light}
:alt: {alt}
:class: only-light
```
```{{image}} {dark}
:alt: {alt}
:class: only-dark
```"""
LINK = re.compile(r"\[([^\]]+)\]\((?P<target>[^)\s#:]+)\)")


def inside(app: Sphinx, page: str, source: list[str]) -> None:
    """Fills in a page that shows a file from above, and rewrites the links of one page."""
    names = {shown: name for name, shown in PAGES.items()}
    if page in names:
        source[0] = (app.srcdir.parent / names[page]).read_text()
        source[0] = re.sub(r"\]\((?!docs/|[a-z]+:|#)", "](../", source[0]).replace("](docs/", "](")
    up = "../" * (page.count("/") + 1)

    def link(match: re.Match[str]) -> str:
        text, target = match[1], match["target"]
        if not target.startswith(up) or target.startswith(f"{up}../"):
            return match[0]
        name = target.removeprefix(up)
        if name in PAGES:
            return f"[{text}]({up.removesuffix('../')}{PAGES[name]}.md)"
        is_there = (app.srcdir.parent / name).exists()
        return text if is_there else match[0]  # what is not there stays a link, and Sphinx refuses it

    source[0] = PICTURE.sub(lambda found: IMAGES.format(dark=found[1], alt=found[2], light=found[3]), source[0])
    source[0] = LINK.sub(link, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects to the reading of sources."""
    app.connect("source-read", inside)
    return {"parallel_read_safe": True}
