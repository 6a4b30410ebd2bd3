# A receiver, then a sender is destroyed in mid transfer: others go on, nobody keeps a grant to the dead, both come back.
# needs=plain
# limit=300
backend_config 'default-route-between-guests = "direct"'
backend_start
agents_up 1 2 3
serve a1 a2 a3

step 'the receiver a2 is destroyed; a1 sends to a3 as well'
transfer_start doomed a1 10.9.0.2 2000000000
transfer_start other a1 10.9.0.3 100000000
transfer_runs other a1
old=$(guest_domid a2)
guest_destroy a2
no_grants_to a1 "$old"
no_grants_to a3 "$old"
transfer_end other a1
in_guest a1 'killall xenvelope-lab'

step 'it is back under a new domid'
agents_up 2
expect 'domid of a2' "$(guest_domid a2)" -ne "$old"
serve a2
ping_ok a1 10.9.0.2
both_ways a1 10.9.0.2 20000000

step 'the sender a1 is destroyed; a2 sends to a3 as well'
transfer_start doomed a1 10.9.0.2 2000000000
transfer_start other a2 10.9.0.3 100000000
transfer_runs other a2
old=$(guest_domid a1)
guest_destroy a1
no_grants_to a2 "$old"
no_grants_to a3 "$old"
transfer_end other a2

step 'it is back under a new domid'
agents_up 1
serve a1
both_ways a1 10.9.0.2 20000000
both_ways a3 10.9.0.1 20000000
backend_alive
