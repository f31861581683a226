"""What lies in a model's files: headers, sizes, precisions, and the memory that they take."""
