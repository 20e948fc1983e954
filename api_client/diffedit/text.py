"""Text from elsewhere, made fit to be shown."""


def printable(value: object) -> str:
    """`value` as text without control characters, which could steer a terminal; line breaks stay."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in str(value))
