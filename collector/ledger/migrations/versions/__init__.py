"""The changes of the schema, oldest first; their numbers are in `schema.REVISIONS`."""
