# The agent is killed and started again: the guest's own TCP goes on, and no grants leak.
# needs=plain
# limit=300
backend_config 'default-route-between-guests = "direct"'
backend_start
agents_up 1 2
serve a1
# As much as later, so that the pools of granted pages have grown to what they need.
transfer a2 10.9.0.1 100000000

grants() { xenvelope-lab grant-entries "$(guest_domid "$1")" | grep -o '"total":[0-9]*' | cut -d: -f2; }
first_a1=$(grants a1)
first_a2=$(grants a2)
transfer_start long a2 10.9.0.1 200000000
for guest in a2 a1 a2; do
    step "the agent of $guest is killed"
    transfer_runs long a2
    in_guest $guest 'kill -KILL $(cat /run/agent.pid); sleep 1'
    agent_start $guest
    sleep 4
done
transfer_limit=200
transfer_end long a2

step 'grants are as many as before'
sleep 6
expect 'entries of a1' "$(grants a1)" -le $((first_a1 + first_a1 / 10 + 16))
expect 'entries of a2' "$(grants a2)" -le $((first_a2 + first_a2 / 10 + 16))
both_ways a2 10.9.0.1 10000000
backend_alive
