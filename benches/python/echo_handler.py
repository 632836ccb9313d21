"""The handler of the measurements: gives back what it gets."""


def echo(payload):
    return payload
