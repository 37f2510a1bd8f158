"""Refunds made elsewhere, disputes and closed payments: others move the money of our payments."""
