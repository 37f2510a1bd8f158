"""deploy/Dockerfile without Docker: its steps run in clean Debian roots, and the result refunds money."""
