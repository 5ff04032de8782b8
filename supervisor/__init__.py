"""The embedded installation: its servers, and what keeps them and our own processes running."""
