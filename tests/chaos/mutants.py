"""Copies of our code with one defect each. A chaos run that does not detect the defect proves nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

SOURCE = Path(__file__).parent.parent.parent / "src"

# name: its edits, each as (file, a text that is in it once, its replacement)
MUTANTS = {
    # The list that is read before most repeats would make up for the new key, so it is not read. At PayPal the invoice
    # number would make up for it too; at PayPal a payout is safe by the id in its body.
    "fresh_key": (
        (
            "refund_worker/domain/next_step.py",
            'return f"{leg_id}:{attempt}"',
            'import secrets\n\n    return f"{leg_id}:{attempt}:{secrets.token_hex(4)}"',
        ),
        ("refund_worker/domain/next_step.py", "elif must_list_first(", "elif leg.sends == 0 and must_list_first("),
        (
            "refund_worker/domain/payouts/next_step.py",
            "elif finds and _must_list_first(",
            "elif finds and leg.sends == 0 and _must_list_first(",
        ),
        ("refund_worker/processors/paypal/objects.py", '        "invoice_id": invoice_id_of(order),\n', ""),
    ),
}


def mutated(name: str, folder: Path) -> Path:
    """Return a copy of our source with the defect, below `folder`. Raise `KeyError` if there is no such defect.

    Fails unless each replaced text is in its file exactly once.
    """
    source = folder / "src"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in MUTANTS[name]:
        text = (source / file).read_text("utf-8")
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        (source / file).write_text(text.replace(old, new), "utf-8")
    return source
