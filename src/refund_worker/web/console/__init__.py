"""The console: pages for support staff and operators, rendered here, usable without JavaScript."""
