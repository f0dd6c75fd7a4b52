"""Where the trials of a table come from, and that they belong in one."""

import json
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lmsa_bench.errors import UserError


def origins(table: pa.Table) -> dict[str, dict[str, Any]]:
    """The provenance of each trial that has finished or diverged."""
    columns = ["trial", "status", "provenance"]
    ended = table.select(columns).group_by(columns).aggregate([]).to_pylist()
    return {row["trial"]: json.loads(row["provenance"]) for row in ended if row["status"] in ("finished", "diverged")}


def refuse_mixtures(table: pa.Table) -> None:
    """Raises UserError where trials of two protocols, versions of one variant's data or source models are in one table.

    All seeds of a task's variant start from one source model; from one each where it is trained on the seed's images.
    """
    protocols = pc.unique(table["protocol"]).to_pylist()
    if len(protocols) > 1:
        raise UserError(
            f"results of protocols {', '.join(map(str, sorted(protocols)))} cannot be in one table: run the suite "
            "anew into another results folder"
        )
    data, sources = defaultdict(set), defaultdict(set)
    columns = ["task", "variant", "provenance"]  # variants may lie in files, and so have fingerprints, of their own
    for row in table.select(columns).group_by(columns).aggregate([]).to_pylist():
        facts = json.loads(row["provenance"] or "{}")
        if fingerprint := facts.get("data"):
            data[row["task"], row["variant"]].add(fingerprint)
        if fingerprint := facts.get("source"):  # one that other code made is another, and told in a footnote
            share = row["task"], row["variant"], facts.get("source_seed"), facts.get("source_code")
            sources[share].add(fingerprint)
    for (task, _), fingerprints in data.items():
        if len(fingerprints) > 1:
            raise UserError(
                f"task {task}: its results come from different data (fingerprints {', '.join(sorted(fingerprints))}): "
                "run the suite anew into another results folder"
            )
    for (task, *_), fingerprints in sources.items():
        if len(fingerprints) > 1:
            raise UserError(
                f"task {task}: its results start from different source models (fingerprints "
                f"{', '.join(sorted(fingerprints))}): run the suite anew into another results folder"
            )
