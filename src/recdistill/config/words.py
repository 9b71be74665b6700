"""Names that the command line and the stages share."""

COMMAND = "RECDISTILL_COMMAND"
"""Environment variable with the command line as it was typed, for the report of a run."""
