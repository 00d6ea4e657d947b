"""The results of all benchmarks as one Markdown page.

python benchmarks/page.py    # writes docs/benchmarks.md from benchmarks/results/*.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

_HEAD = """# Benchmarks

What was measured, and on what machine; this page is made from the JSON under `benchmarks/results/` by
`benchmarks/page.py`, at the end of `make bench`, which measures all anew (`make bench DEVICE=cuda` on a GPU).

Candidates alternate in one process. A time is the median over the blocks; a ratio is taken within a block, to
the candidate of ratio 1, and its median stands before its least and largest value.
"""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")


def page() -> str:
    """All that was measured of speed."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    return "\n".join([_HEAD, *(section(each) for each in found if "tables" in each)])


def section(found: dict[str, Any]) -> str:
    """What one script measured."""
    about = " ".join(found["notes"].partition("\n\n")[0].split())
    machine = found["machine"]
    device = machine["device"]
    cores = f"{machine['logical_cores']} logical cores, {machine['torch_threads']} threads"
    where = f"{machine['processor']}, {cores}"
    if device != "cpu":
        where = f"{device}, beside {where}"
    lines = [f"## {found['benchmark']}{'' if device == 'cpu' else ', ' + device}", "", about, ""]
    lines += [f"{where}; torch {machine['torch']}, Python {machine['python']}.", ""]
    for title, rows in found["tables"].items():
        lines += [
            f"**{title}**",
            "",
            "| | milliseconds | ratio |",
            "| --- | --: | --: |",
        ]
        for row in rows:
            spread = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
            is_base = row["ratio"] == row["ratio_low"] == row["ratio_high"] == 1.0
            lines.append(f"| {row['name']} | {_number(row['milliseconds'])} | {'1' if is_base else spread} |")
        lines.append("")
    return "\n".join(lines)


def _number(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


if __name__ == "__main__":
    main()
