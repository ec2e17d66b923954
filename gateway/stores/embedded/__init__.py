"""The three stores in one data directory: SQLite for small documents, directories for versions, spools for records.

DIR/config.sqlite    documents and audit trail
DIR/joins.sqlite     predictions that wait for labels, labelled rows, the monitor's state
DIR/registry/        versions
DIR/journal/         streams, one spool for each writer
"""
