# Two guests with our frontend: envelopes through our backend's switch.
# needs=plain
backend_config 'default-route-between-guests = "switch"'
backend_start
agents_up 1 2
serve a1
ping_ok a2 10.9.0.1
ping_ok a2 fd09::1
forwarded=$(backend_counter envelopes-forwarded)
netif=$(backend_counter netif-in)
both_ways a2 10.9.0.1 50000000
both_ways a2 fd09::1 20000000
expect 'envelopes forwarded' $(($(backend_counter envelopes-forwarded) - forwarded)) -gt 100
# What went as an envelope did not go as a frame.
expect 'frames by netif' $(($(backend_counter netif-in) - netif)) -lt 200
expect 'frames granted to a1' "$(agent_counter a2 granted-frames)" -gt 1000
backend_alive
