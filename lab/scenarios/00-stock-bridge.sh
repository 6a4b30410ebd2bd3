# Two guests with Linux' own netfront, netback and a bridge: nothing of ours. It shows that the lab works.
# needs=plain
stock_bridge
guest_create u1 number=1
guest_create u2 number=2
guest_up u1 u2
guest_address u1 eth0 1
guest_address u2 eth0 2
serve u1
ping_ok u2 10.9.0.1
both_ways u2 10.9.0.1 20000000
