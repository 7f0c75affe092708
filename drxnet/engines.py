"""What can evaluate the part of the network that takes the time: its encoder of compositions."""

ENGINES: dict[str, str] = {
    "auto": "fused where it can be used and there is enough to encode, else eager",
    "eager": "the network itself",
    "compiled": "the network through torch.compile; needs a C++ compiler",
    "fused": "the kernel of drxnet.fused; needs the extra `fast`",
}
"""What each engine is, by name."""
