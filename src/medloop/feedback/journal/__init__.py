"""The signed journal: its chain of entries, its head, and their verification."""
