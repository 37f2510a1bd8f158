"""Payouts by bank transfer: files for a bank's portal, and the bank's answers. Pure: no network and no database."""
