"""Payees, their destinations, their earnings, and what is taken back from these."""
