"""Text of others inside Markdown: model cards and reports quote names, labels and texts that a user wrote."""

import re


def escaped(text: object) -> str:
    """One line that shows the text as it is: no link, no HTML, no column of a table, no heading or list."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~#$])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word, as in a metric's name, it is no markup
    return re.sub(r"^(\d+)([.)] )|^([-+])(?= )", lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", text)
