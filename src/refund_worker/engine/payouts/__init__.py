"""The way of a payout to the payee, and runs of many payouts."""
