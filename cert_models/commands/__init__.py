"""The subcommands of `cert`, one file a group; each adds its parsers and runs them."""
