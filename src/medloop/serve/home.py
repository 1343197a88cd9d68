"""The plain page at `/`: what serves, and a line that tries it."""

from __future__ import annotations

import json

from medloop import page
from medloop.bundle.predictor import Predictor


def home_page(predictor: Predictor) -> str:
    """A page that needs no scripts."""
    meta = predictor.meta
    columns = [(column["name"], column["kind"]) for column in meta["preparer"]["columns"]]
    record = {name: None for name, _ in columns}
    positive = ", ".join(meta["positive"]) or "none named"
    return page.page(
        f"{meta['name']} is being served",
        lead=f"{meta['model']['name']}, version {predictor.version}, bundle {predictor.hash[:12]}",
        body=[
            page.section(
                "Ask it",
                page.paragraph("POST a record to /v1/predictions; null stands for an unknown value."),
                page.code(json.dumps({"records": [record]})),
                page.link("/docs", "All requests, to read and to try"),
            ),
            page.section(
                "How it decides",
                page.paragraph(f"Classes: {', '.join(meta['classes'])}. Positive: {positive}."),
                page.paragraph(f"Threshold: {meta['threshold']['value']}, by the rule {meta['threshold']['rule']}."),
                page.paragraph(
                    "It gives no class where it is too close to call or far from anything seen in training."
                ),
            ),
            page.section("Columns", page.table(("name", "kind"), columns)),
        ],
    )
