"""Which labelled rows a job gets, and how they are kept."""
