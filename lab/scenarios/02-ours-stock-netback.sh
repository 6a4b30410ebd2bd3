# Our frontend under Linux' own netback and bridge, to a guest with Linux' own netfront.
# needs=plain
stock_bridge
guest_create a1 number=1 role=agent vif=stock
guest_create u2 number=2
guest_up a1 u2
agent_start a1
guest_address a1 xenv0 1
guest_address u2 eth0 2
serve a1 u2
ping_ok u2 10.9.0.1
ping_ok a1 fd09::2
both_ways a1 10.9.0.2 20000000
both_ways u2 fd09::1 20000000
expect 'frames by netif' "$(agent_counter a1 sent-by/netif-frames)" -gt 100
expect 'envelopes' "$(agent_counter a1 envelopes-sent)" -eq 0
