"""Statements for the API that are more than one select of one table."""
