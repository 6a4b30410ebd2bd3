# Our frontend to a guest with Linux' own netfront, both on our backend, and to an address behind dom0.
# needs=plain
backend_config '[uplink]' 'tap = "xenv-up"'
backend_start
outside_up xenv-up
guest_create s2 number=2 vif=ours
agents_up 1
guest_up s2
guest_address s2 eth0 2
serve a1 s2
for address in 10.9.0.2 fd09::2 10.9.0.100 fd09::64; do
    step "a1 and $address"
    ping_ok a1 $address
    both_ways a1 $address 20000000
done
step 's2 begins'
both_ways s2 10.9.0.1 20000000
transfer s2 10.9.0.100 5000000
expect 'frames to the outside' "$(backend_counter uplink-out)" -gt 100
backend_alive
