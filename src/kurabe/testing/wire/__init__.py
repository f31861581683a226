"""What each provider sends, as its documentation and its SDK's types say; written without kurabe's own decoders."""
