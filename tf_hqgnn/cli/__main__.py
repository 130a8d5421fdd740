"""`python -m tf_hqgnn.cli` is `tf-hqgnn`."""

from tf_hqgnn.cli.commands import main

if __name__ == "__main__":
    main()
