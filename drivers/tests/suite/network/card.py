"""Plays the card of a machine: carries frames between the card that the driver made for a VMM, opened as the
VMM's user would open it, and one called "card" in the namespace that stands for the machine.

Arguments: the device, the user, the namespace of the VMM and that of the machine.
"""

import ctypes
import fcntl
import os
import select
import struct
import sys

TUNSETIFF = 0x400454CA
TAP_WITHOUT_HEADERS = 0x1002
NEW_NETWORK = 0x40000000
LARGEST_FRAME = 1 << 16


def enter(namespace: str) -> None:
    descriptor = os.open(namespace, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


def open_card(device: str, name: str, user: int) -> int:
    card = os.open(device, os.O_RDWR)
    os.seteuid(user)
    fcntl.ioctl(card, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_WITHOUT_HEADERS))
    os.seteuid(0)
    return card


def main(device: str, user: str, vmm: str, machine: str) -> None:
    enter(vmm)
    outer = open_card(device, "guest", int(user))
    enter(machine)
    inner = open_card(device, "card", 0)
    print("ready", flush=True)
    while True:
        for card in select.select([outer, inner], [], [])[0]:
            frame = os.read(card, LARGEST_FRAME)
            try:
                os.write(inner if card == outer else outer, frame)
            except OSError:
                # A card that is down takes nothing.
                continue


main(*sys.argv[1:])
