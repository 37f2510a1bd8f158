"""Why sending to a processor stops: the codes of its refusals that concern our key, our account or our requests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from refund_worker.engine.views.explanations import SENDING_STOPS, Course, Explanation

_ACCESS_SETTING = "its setting is named in `refund-worker doctor`"

_KEY = Explanation(
    "The processor does not accept our API key",
    "The API key is wrong, expired or revoked, or it was left out.",
    f"Make a new key at the processor, or take the right one, and set it ({_ACCESS_SETTING}). Check it with "
    "`refund-worker doctor`.",
    course=SENDING_STOPS,
)
_NO_KEY = Explanation(
    "No API key for this processor is set",
    "A process has no key for this processor, so it cannot ask it anything.",
    f"Set the key for every process, workers and scheduler included ({_ACCESS_SETTING}).",
    course=SENDING_STOPS,
)
_ACCOUNT = Explanation(
    "Our account at the processor may not do this",
    "The processor knows the key, but the account, or this restricted key, may not make refunds.",
    "Read the message: `refund-worker processors status -o json`. Give the key the permission that it names, or "
    "finish what the processor's dashboard asks of the account.",
    course=SENDING_STOPS,
)
_MODE = Explanation(
    "The key is of another mode than the payments",
    "A key for tests was used with real payments, or the other way round.",
    f"Set the key of the right mode ({_ACCESS_SETTING}). `refund-worker doctor` shows the mode of the key.",
    course=SENDING_STOPS,
)
_FORM = Explanation(
    "The processor does not accept the form of our requests",
    "The processor refuses a parameter, the version of its interface or the encryption that this program uses. Every "
    "refund would be refused alike.",
    "Read the message: `refund-worker processors status -o json`. Look for a newer version of this program, or go "
    "back to the version that worked. Inform the developers.",
    course=SENDING_STOPS,
)
_RESTORED = Explanation(
    "The processor has refunds that this database does not know",
    "The database was restored from an older backup, or a copy of it sends too. The processor made refunds for this "
    "installation that are missing here.",
    "Do not resume yet: the missing refunds could be paid twice. Follow the section Restore of the operations page. "
    "`refund-worker processors status -o json` names the newest missing refund.",
    course=Course(
        "Nothing more is sent to this processor until a person resumes it. No refund fails. Look-ups continue, and "
        "results of known refunds are recorded.",
        (
            "Only when every missing refund is recorded or settled: `refund-worker processors resume PROCESSOR "
            "--reason 'WHY'`.",
        ),
        "At once. If nobody restored a backup, a copy of the database runs with the same key: remove the key there.",
        SENDING_STOPS.over,
    ),
)
_BY_A_PERSON = Explanation(
    "A person paused sending",
    "A person pressed Pause, or ran `refund-worker processors pause`. The reason and the name are stored with it.",
    "Ask that person. `refund-worker audit list --kind processor_paused` shows who it was and when.",
    course=Course(
        "Nothing more is sent to this processor until a person resumes it. Requests are still accepted, and refunds "
        "that were sent are still looked up.",
        ("`refund-worker processors resume PROCESSOR --reason 'WHY'`, or the button on `/console/processors`.",),
        "If nobody remembers why it is paused.",
        SENDING_STOPS.over,
    ),
)

SENDING_GROUPS: Mapping[Explanation, str] = {
    _KEY: "api_key_expired platform_api_key_expired secret_key_required http_401 authentication_error",
    _NO_KEY: "processor_not_configured",
    _ACCOUNT: "account_invalid platform_account_required http_403 permission_error",
    _MODE: "livemode_mismatch testmode_charges_only",
    _FORM: "parameter_unknown parameters_exclusive payment_evaluation_on_api_version_not_supported "
    "tls_version_unsupported invalid_request_error",
    _RESTORED: "restored_backup",
    _BY_A_PERSON: "paused_by_hand",
}
SENDING_CODES: Mapping[str, Explanation] = MappingProxyType(
    {code: explanation for explanation, codes in SENDING_GROUPS.items() for code in codes.split()}
)
