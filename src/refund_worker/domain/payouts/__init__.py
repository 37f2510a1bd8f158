"""Payouts: the money that payees earned and that is sent to them. Pure rules, as in the rest of the domain."""
