"""The sandboxes share this: a separate process that is controlled over its endpoints, and the file of a book.

It imports nothing from the rest of refund_worker, as the sandboxes do.
"""

from __future__ import annotations
