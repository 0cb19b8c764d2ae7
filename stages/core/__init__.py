"""Plumbing that everyone may use: parameters, files, console, the machine, plug-ins, errors."""
