"""`crm.py fill`: a database of the size of a large installation, written as rows."""
