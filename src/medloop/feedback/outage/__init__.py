"""What happens while the database is unavailable: the spool and its delivery."""
