"""An element that a small task manager has no memory for. Workers import this."""

from tf_hqgnn.beam.much_output import MuchOutput

MEGABYTES = 100


class Large(MuchOutput):
    """One large element for each."""

    def process(self, element):
        yield bytes(MEGABYTES << 20)


def write_size(element, path):
    path.write_text(str(len(element)))
