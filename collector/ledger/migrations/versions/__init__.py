"""The changes of the schema, oldest first; their numbers are in `schema.REVISIONS`.

Within a minor version they only add, so that older programs can go on; one that breaks older programs says so in
`compatible_from` (`r0012_compatible_from`).
"""
