"""Helpers that several test folders share: servers, fake processors, test data."""
