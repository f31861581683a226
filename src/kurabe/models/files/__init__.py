"""Where the files of models come from and where they are kept."""
