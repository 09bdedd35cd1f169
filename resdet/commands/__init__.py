"""Implementations of the subcommands; `resdet.cli` parses their arguments."""
