"""The report for people: page, plots and model card."""
