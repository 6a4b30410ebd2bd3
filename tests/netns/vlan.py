#!/usr/bin/env python3
"""A VLAN interface for a kernel that has none: vlan.py NAME VID

A TAP of that name, whose frames go out by eth0 with a tag of VLAN VID, and to which frames go that
come in by eth0 with one.
"""

import errno
import fcntl
import os
import select
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
TP_STATUS_VLAN_VALID = 1 << 4
ETH_P_ALL = 3


def main(name, vid):
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    with open("/sys/class/net/eth0/address") as file:
        address = bytes.fromhex(file.read().strip().replace(":", ""))
    # What is tagged has the same source as what is not: the host takes no other.
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(control, 0x8924, struct.pack("16sH6s16x", name.encode(), 1, address))
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.bind(("eth0", ETH_P_ALL))
    wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    print("ready", flush=True)
    tag = struct.pack("!HH", 0x8100, vid)
    while True:
        for ready in select.select([tap, wire], [], [])[0]:
            if ready == tap:
                try:
                    frame = os.read(tap, 65600)
                    wire.send(frame[:12] + tag + frame[12:])
                except BlockingIOError:
                    pass
                continue
            frame, ancillary, _, _ = wire.recvmsg(65600, 256)
            for level, kind, data in ancillary:
                if (level, kind) != (SOL_PACKET, PACKET_AUXDATA):
                    continue
                # struct tpacket_auxdata: the kernel has taken the tag out.
                status, *_, tci, _ = struct.unpack("IIIHHHH", data[:20])
                if status & TP_STATUS_VLAN_VALID and tci & 0xFFF == vid:
                    try:
                        os.write(tap, frame)
                    except OSError:
                        pass  # It is not up yet.


try:
    main(sys.argv[1], int(sys.argv[2]))
except OSError as error:
    # The host has ended, and eth0 is gone.
    if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
        raise
