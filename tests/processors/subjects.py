"""Every adapter under contract: those of the program, those of the folders here, and those named from outside."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processors.contract import Part, Subject
from tests.processors.other_subjects import BankFile, Manual, Scripted, Simulated, Unsupported, Unusable, Walked
from tests.processors.stripe_subjects import ConnectedSandbox, SandboxCharge, SandboxIntent, ThirdParty

# A module with the subjects of an adapter that lives outside this project, such as `acme_refunds.subject`.
OUTSIDE = "REFUND_WORKER_TEST_SUBJECTS"


def _found() -> Iterator[type[Subject]]:
    """Yield the subjects of each `subject.py` below this folder, and of the module that the variable names."""
    names = [
        f"tests.processors.{path.parent.name}.subject" for path in sorted(Path(__file__).parent.glob("*/subject.py"))
    ]
    names += [name for name in os.environ.get(OUTSIDE, "").split(",") if name]
    for name in names:
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, type) and issubclass(value, Subject) and value.__module__ == name:
                yield value


SUBJECTS: tuple[type[Subject], ...] = (
    SandboxCharge,
    SandboxIntent,
    ConnectedSandbox,
    ThirdParty,
    BankFile,
    Manual,
    Unsupported,
    Unusable,
    Scripted,
    Walked,
    Simulated,
    *_found(),
)


def label(subject: type[Subject]) -> str:
    """Return the name of a subject in the ids of tests."""
    return subject.__name__


def claiming(*parts: Part) -> pytest.MarkDecorator:
    """Run a test for every subject that claims these parts; for all subjects if there are none."""
    subjects = [subject for subject in SUBJECTS if subject.claims().issuperset(parts)]
    return pytest.mark.parametrize("client", subjects, indirect=True, ids=label)
