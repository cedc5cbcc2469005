"""What scripts do with a client: `securechat send` and `securechat listen`, each one run of a core."""
