"""What draws the pages of `notebooks/paper/`, a file a page or more; the tables beside them are in `ctrcl.report`."""
