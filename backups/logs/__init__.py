"""Log backups: received piece by piece, and the gaps in what has arrived, with who broke the chain (R-8, R-9)."""
