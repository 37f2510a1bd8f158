"""Types of the texts in a page's query: bounded, and spelled as stored ids are where they search for one."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator

from refund_worker.domain.ids import spelled

LongText = Annotated[str, Query(max_length=1000)]
ShortText = Annotated[str, Query(max_length=200)]
# The same, for what is compared with stored ids.
SearchText = Annotated[ShortText, AfterValidator(spelled)]
