"""The challenger in shadow: a process that repeats the predictions of the champion."""
