"""One verb a file: what each command does once its options are parsed."""
