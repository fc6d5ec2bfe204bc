"""The model card of an adapter, as model hubs show it."""

import json
from collections.abc import Sequence
from typing import Any

from regraft.core.gan import forbids_commerce

HUB_LICENCES = frozenset(
    [
        "apache-2.0",
        "mit",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc",
        "cc0-1.0",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl-3.0",
        "agpl-3.0",
        "unlicense",
    ]
)
"""Identifiers of licences that model hubs know."""


def licence_of(record: dict[str, Any]) -> str | None:
    """Return the licences of an adapter's sources, joined; None if none is stated."""
    licences = [str(s["licence"]) for s in record["sources"] if s.get("licence")]
    return "; ".join(dict.fromkeys(licences)) or None


def model_card(name: str, record: dict[str, Any], scores: Sequence[dict[str, Any]]) -> str:
    """Write the model card of an adapter, beginning with the hub's front matter.

    Args:
        name: of the adapter folder.
        record: the adapter's description.
        scores: results, as plain data.

    Returns:
        Markdown.
    """
    bases = [str(s["name"]) for s in record["sources"]]
    licence = licence_of(record)
    terms = ["**Non-commercial use only**: a source's licence forbids commercial use, also of what is made from it.", ""]
    terms = terms if forbids_commerce(licence) else []
    front = ["---", "library_name: regraft", "tags: [gan, adapter, regraft]"]
    if bases:
        front += [f"base_model: {json.dumps(bases)}", "base_model_relation: adapter"]
    front += _hub_licence(licence) if bases else []
    front += ["---", ""]
    height, width = record["image"]["size"]
    lines = [
        f"# {name}",
        "",
        f"A generator adapted with regraft's method `{record['method']}`"
        + (f" from {', '.join(bases)}" if bases else " without a source")
        + f", on {record['data']['n']} images of {width}x{height}"
        + (f", of which {record['data']['held_out']} were held out for measuring." if record["data"]["held_out"] else "."),
        *(["", f"Classes: {', '.join(map(str, record['data']['classes']))}."] if record["data"].get("classes") else []),
        "",
        "```python",
        "import regraft",
        "",
        *(["# its sources by name, or where their files are on your machine"] if record["stored"] == "changed" else []),
        f'gan = regraft.load_adapter("{name}"' + (f", sources={json.dumps(bases)})" if record["stored"] == "changed" else ")"),
        "images = gan.sample(16, seed=0)",
        "```",
        "",
        f"Licence of the source: {licence or 'not stated'}.  An adapter inherits the terms of its source.",
        "",
        *terms,
    ]
    if scores:
        lines += ["| measure | value | n real | n generated |", "|---|---|---|---|"]
        lines += [f"| {s['name']} | {s['value']:.4g} | {s['n_real']} | {s['n_fake']} |" for s in scores]
        lines.append("")
    return "\n".join(front + lines)


def _hub_licence(licence: str | None) -> list[str]:
    """Return the front matter's lines on a licence: the hub's identifier if it has one, else the licence's name."""
    if licence is None:
        return ["license: unknown"]
    identifier = licence.strip().lower().replace(" ", "-")
    return (
        [f"license: {identifier}"] if identifier in HUB_LICENCES else ["license: other", f"license_name: {json.dumps(licence)}"]
    )
