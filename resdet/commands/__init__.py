"""What the subcommands do; cli.py reads their arguments."""
