"""Claims: what others take of a payment of ours, and what that means for the customer's credits. Pure functions."""
