"""How long copies stay and how they go: dates, locks and holds, expiry, and the one guarded purge (R-14.3, R-15)."""
