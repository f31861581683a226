"""A sweep: the search for the best settings of another contestant."""
