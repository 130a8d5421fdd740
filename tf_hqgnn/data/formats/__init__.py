"""The formats that interactions come in, a file each; `InputFormat` and the registry stand in input_format.py."""
