"""The look of every page that is written: the report, the live view. One style sheet; nothing comes from a network."""

from pathlib import Path


def style_sheet() -> str:
    """The style sheet, for a page's `<style>`."""
    return Path(__file__).with_name("style.css").read_text()
