"""Pages that need no other file: tables, and pictures inside them."""

import base64
import io
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

_JPEG_QUALITY = 85


def render(template: str, **content: Any) -> str:
    """Fill a template of `templates/`; text in it cannot become markup."""
    pages = Environment(
        loader=PackageLoader("arniqa_pl.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template(template).render(**content)


def page_table(frame: pd.DataFrame, best: Collection[str] = ()) -> dict[str, Any]:
    """Lay a table out for the templates: texts to the left, numbers to the right.

    Args:
        frame: any table.
        best: columns whose highest number is to stand out.

    """
    numeric = {column: not pd.api.types.is_string_dtype(frame[column]) for column in frame}
    highest = {column: frame[column].max() for column in best}
    return {
        "columns": [{"name": str(column).replace("_", " "), "number": numeric[column]} for column in frame],
        "rows": [
            [
                {"text": cell(value), "number": numeric[column], "best": column in highest and value == highest[column]}
                for column, value in zip(frame.columns, row, strict=True)
            ]
            for row in frame.itertuples(index=False)
        ],
    }


def cell(value: object) -> str:
    """Return what a table says of a value: numbers with three decimals, what is missing as a dash."""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def picture(file: Path) -> str:
    """Return an image file as a data URI: as it is, or as JPEG where that is smaller, as it is of photographs."""
    own, packed = file.read_bytes(), io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").save(packed, "JPEG", quality=_JPEG_QUALITY)
    jpeg = packed.getvalue()
    kind, content = ("jpeg", jpeg) if len(jpeg) < len(own) else ("png", own)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def drawing(figure: Figure) -> str:
    """Return a figure as a data URI of a drawing that stays sharp."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "arniqa_pl"}), io.BytesIO() as stream:
        figure.savefig(stream, format="svg", metadata={"Date": None})
        return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"
