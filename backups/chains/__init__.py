"""What can be restored from what: chains of backups and logs, the windows they open, and what keeps a link in place."""
