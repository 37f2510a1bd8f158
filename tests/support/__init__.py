"""What tests share: real servers as child processes, and a third party's imitation of Stripe."""
