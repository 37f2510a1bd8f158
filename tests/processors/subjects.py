"""Every adapter under contract: one line for each in `SUBJECTS`."""

from __future__ import annotations

import pytest
from tests.processors.contract import Part, Subject
from tests.processors.http.subject import OverHttp
from tests.processors.other_subjects import Manual, Scripted, Simulated, Unsupported, Unusable, Walked
from tests.processors.second.subject import AcmePay
from tests.processors.stripe_subjects import SandboxCharge, SandboxIntent, ThirdParty

# One line for each adapter, with the server or the fake behind it.
SUBJECTS: tuple[type[Subject], ...] = (
    SandboxCharge,
    SandboxIntent,
    ThirdParty,
    Manual,
    Unsupported,
    Unusable,
    Scripted,
    Walked,
    Simulated,
    AcmePay,
    OverHttp,
)


def label(subject: type[Subject]) -> str:
    """Return the name of a subject in the ids of tests."""
    return subject.__name__


def claiming(*parts: Part) -> pytest.MarkDecorator:
    """Run a test for every subject that claims these parts; for all subjects if there are none."""
    subjects = [subject for subject in SUBJECTS if subject.claims().issuperset(parts)]
    return pytest.mark.parametrize("client", subjects, indirect=True, ids=label)
