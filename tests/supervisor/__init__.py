"""The supervisor and the servers it runs, each started for real."""
