"""What the subcommands do; `resdet.cli` reads their arguments."""
