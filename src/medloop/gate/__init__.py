"""The promotion gate: its rules, the comparison with the champion, and the ledger of evaluations of an edition."""
