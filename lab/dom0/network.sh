# dom0's side of the network: the stock bridge, our driver-domain process, the card, the outside.

# stock_bridge: br0, for vifs with script=vif-bridge.
stock_bridge() {
    ip link show br0 >/dev/null 2>&1 || ip link add name br0 type bridge
    ip link set br0 up
}
